//! The unit, as systemd itself reads it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use skidder_tests::workspace;

const UNIT: &str = "packaging/systemd/skidder.service";

fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).current_dir(workspace::root()).output();
    let output = output.expect("systemd-analyze, of Debian's package systemd");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What `systemd-analyze verify` says of the unit on a machine that has the program and hardly anything else.
fn verify(unit: &str) -> (bool, String) {
    let machine = tempfile::tempdir().unwrap();
    let units = machine.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("skidder.service"), unit).unwrap();
    for target in ["basic", "multi-user", "network-online", "shutdown", "sysinit"] {
        fs::write(units.join(target).with_extension("target"), "[Unit]\nDescription=There\n").unwrap();
    }
    for program in ["usr/bin/skidder", "bin/kill"] {
        let program = machine.path().join(program);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "#!/bin/false\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    analyze(&["verify", "--man=no", &format!("--root={}", machine.path().display()), "skidder.service"])
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let unit = fs::read_to_string(workspace::root().join(UNIT)).unwrap();
    assert_eq!(verify(&unit), (true, String::new()));
    // It warns of what it does not know, and goes on without.
    let (_, said) = verify(&unit.replace("ProtectHome=", "ProtectHoem="));
    assert!(said.contains("ProtectHoem"), "{said}");
}

#[test]
fn the_unit_exposes_little() {
    // systemd's own measure: 0.0 is nothing, 9.6 what a unit without any such line has. Above 2.0 the exit code says so.
    let (content, said) = analyze(&["security", "--offline=yes", "--threshold=20", UNIT]);
    assert!(content, "{said}");
}
