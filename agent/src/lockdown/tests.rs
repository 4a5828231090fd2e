use std::fs;
use std::io;
use std::process::Command;

use rustix::io::Errno;

use super::*;

/// What a thread can do once it is locked in.
#[derive(Debug)]
struct Tried {
    done: Lockdown,
    read_own: io::Result<String>,
    read_other: io::Result<String>,
    write_own: io::Result<()>,
    rename_own: io::Result<()>,
    remove_temporary: io::Result<()>,
    write_beside_it: io::Result<()>,
    write_other: io::Result<()>,
    truncate_readable: io::Result<()>,
    start: io::Result<()>,
    change_owner: io::Result<()>,
}

/// Locks a thread in (this one would stay so) and tries.
fn tried(reads: bool) -> Tried {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for name in ["state", "state/deep", "logs", "other", "tmp", "tmp/own", "tmp/own/deep"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("logs/0.log"), "line\n").unwrap();
    fs::write(path("other/secret"), "secret\n").unwrap();
    let allowed =
        Allowed { reads: reads.then(|| vec![path("logs")]), writes: vec![path("state"), path("tmp/own")], removes: vec![path("tmp")] };
    let try_all = || {
        let done = restrict(&allowed);
        Tried {
            done,
            read_own: fs::read_to_string(path("logs/0.log")),
            read_other: fs::read_to_string(path("other/secret")),
            write_own: fs::write(path("state/a"), "x"),
            rename_own: fs::rename(path("state/a"), path("state/deep/b")),
            remove_temporary: fs::remove_dir_all(path("tmp/own")),
            write_beside_it: fs::write(path("tmp/new"), "x"),
            write_other: fs::write(path("other/new"), "x"),
            truncate_readable: fs::OpenOptions::new().write(true).truncate(true).open(path("logs/0.log")).map(drop),
            start: Command::new("/bin/true").status().map(drop),
            change_owner: std::os::unix::fs::chown(path("state/deep"), Some(0), None),
        }
    };
    std::thread::scope(|scope| scope.spawn(try_all).join().unwrap())
}

#[test]
fn what_is_said_to_be_bounded_is() {
    for reads in [true, false] {
        let tried = tried(reads);
        // The state and the logs, whatever the kernel has.
        assert_eq!(tried.read_own.as_deref().unwrap(), "line\n");
        assert!(tried.write_own.is_ok() && tried.rename_own.is_ok() && tried.remove_temporary.is_ok(), "{tried:?}");
        // Every kernel that runs these tests has seccomp; not all have Landlock, and then it has to be said.
        assert!(tried.done.syscalls, "{tried:?}");
        let refused =
            |result: &io::Result<()>| result.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()));
        assert_eq!((refused(&tried.write_other), refused(&tried.write_beside_it)), (tried.done.writes, tried.done.writes), "{tried:?}");
        assert_eq!(refused(&tried.truncate_readable), tried.done.writes, "{tried:?}");
        assert_eq!(tried.read_other.is_err(), tried.done.reads, "{tried:?}");
        assert_eq!(tried.done.reads, reads && tried.done.writes, "{tried:?}");
        assert!(tried.start.is_err() && tried.done.programs, "{tried:?}");
        assert_eq!(tried.change_owner.unwrap_err().raw_os_error(), Some(Errno::NOSYS.raw_os_error()));
    }
}

#[test]
fn what_a_configuration_needs_is_found_in_it() {
    let text = r#"
        data_dir = "/tmp/skidder-state"
        [sources.pods]
        type = "kubernetes_logs"
        root = "/usr/lib/none/pods"
        [sources.journal]
        type = "journald"
        journal_directory = "/usr/lib/none/journal"
        [transforms.clean]
        type = "redact"
        inputs = ["pods", "journal"]
        [sinks.out]
        type = "file"
        inputs = ["clean"]
        path = "/usr/bin/none/{{ kubernetes.pod_namespace }}/x.json"
        [sinks.store]
        type = "elasticsearch"
        inputs = ["clean"]
        endpoints = ["https://127.0.0.1:9200"]
        index = "logs"
        auth = { strategy = "basic", user = "u", password_file = "/usr/include/none/password" }
    "#;
    let read = |text: &str| {
        let checked = crate::config::check::<Builtin>("test", text.as_bytes(), "/usr/games".into(), &|_| None);
        let report = checked.report(false);
        checked.pipeline.unwrap_or_else(|| panic!("{report}"))
    };
    // Credentials that are not there are an error, so they are.
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), "secret").unwrap();
    let text = text.replace("/usr/include/none/password", &password.path().display().to_string());
    let allowed = Allowed::of(&read(&text), Path::new("/tmp/skidder-state"));
    assert_eq!(allowed.writes, [Path::new("/tmp/skidder-state"), Path::new("/usr/bin")]);
    let reads = allowed.reads.unwrap();
    for wanted in [Path::new("/usr/lib"), Path::new("/etc"), password.path().parent().unwrap()] {
        assert!(reads.iter().any(|path| path == wanted), "{wanted:?} {reads:?}");
    }
    assert!(!reads.iter().any(|path| path == Path::new("/") || path == Path::new("/var")), "{reads:?}");
    // A source that follows links may be led anywhere.
    let follows = "[sources.x]\ntype = \"file\"\ninclude = [\"/var/log/x\"]\n[sinks.o]\ntype = \"blackhole\"\ninputs = [\"x\"]\n";
    assert!(Allowed::of(&read(follows), Path::new("/tmp")).reads.is_none());
    let stays = follows.replace("include", "follow_symlinks = false\ninclude");
    assert!(Allowed::of(&read(&stays), Path::new("/tmp")).reads.is_some());
}
