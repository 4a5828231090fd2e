//! The command line from outside: exit codes, and what goes to which output.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

fn skidder(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skidder"));
    command.args(args).env_remove("SKIDDER_CONFIG").env_remove("SKIDDER_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn file(dir: &tempfile::TempDir, content: &str) -> String {
    let path: PathBuf = dir.path().join("pipeline.toml");
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn validate_says_what_the_file_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "[sources.app]\ntype = 'stdin'\n[sinks.out]\ntype = 'blackhole'\ninputs = ['app']\n");
    let output = skidder(&["validate", "-c", &path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("Configuration is valid.\n"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_bad_file_is_exit_78_with_its_mistakes_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "[sources.app]\ntype = 'stdn'\n[sinks.out]\ntype = 'blackhole'\ninputs = ['ap']\n");
    for verb in ["validate", "run"] {
        let output = skidder(&[verb, "--config", &path]);
        assert_eq!(output.status.code(), Some(78), "{verb}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("pipeline.toml:2:8") && stderr.contains("did you mean `stdin`?"), "{stderr}");
        assert!(stderr.contains("pipeline.toml:5:11") && stderr.contains("did you mean `app`?"), "{stderr}");
        assert!(!stderr.contains('\u{1b}'), "no colours where there is no terminal");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_exit_78() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_str().unwrap(), "/nonexistent/pipeline.toml"] {
        let output = skidder(&["validate", "-c", path]);
        assert_eq!(output.status.code(), Some(78));
        assert!(text(&output.stderr).starts_with(&format!("error: cannot read the configuration `{path}`: ")), "{}", text(&output.stderr));
    }
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "");
    let output = Command::new(env!("CARGO_BIN_EXE_skidder")).arg("validate").env("SKIDDER_CONFIG", path).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("there are no sources"));
}

#[test]
fn schema_and_version_go_to_stdout() {
    assert!(text(&skidder(&["schema"]).stdout).starts_with("{\n  \"$schema\""));
    assert!(text(&skidder(&["schema", "--reference"]).stdout).contains("[sources."));
    assert_eq!(text(&skidder(&["--version"]).stdout), format!("skidder {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_sink_that_would_drop_refused_records_without_a_word_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let config = |more: &str| format!("[sources.app]\ntype = 'stdin'\n[sinks.out]\ntype = 'blackhole'\ninputs = ['app']\n{more}");
    let no_room = "dead_letters.max_size = 0\n";
    let refused = skidder(&["validate", "-c", &file(&dir, &config(no_room))]);
    assert_eq!(refused.status.code(), Some(78));
    let stderr = text(&refused.stderr);
    assert!(stderr.contains("pipeline.toml:6:25") && stderr.contains("on_reject = \"drop\""), "{stderr}");
    for fine in [format!("on_reject = 'drop'\n{no_room}"), "dead_letters.max_size = '1MiB'\n".to_owned()] {
        let output = skidder(&["validate", "-c", &file(&dir, &config(&fine))]);
        assert!(output.status.success(), "{fine}: {}", text(&output.stderr));
    }
}

#[test]
fn an_address_that_is_none_is_shown_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "[api]\naddress = 'localhost'\n[sources.app]\ntype = 'stdin'\n[sinks.out]\ntype = 'blackhole'\ninputs = ['app']\n");
    let output = skidder(&["validate", "-c", &path]);
    assert_eq!(output.status.code(), Some(78));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("pipeline.toml:2:11") && stderr.contains("127.0.0.1:8686"), "{stderr}");
}

#[test]
fn init_prints_what_a_store_needs_and_says_how_to_use_it_elsewhere() {
    let output = skidder(&["init", "elasticsearch"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let template: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(template["index_patterns"], serde_json::json!(["logs-generic-default"]));
    assert!(text(&output.stderr).contains("skidder init elasticsearch | curl"), "{}", text(&output.stderr));

    let dir = tempfile::tempdir().unwrap();
    let sink = |name: &str| {
        format!("[sinks.{name}]\ntype = 'elasticsearch'\ninputs = ['app']\nendpoints = ['http://127.0.0.1:1']\nindex = '{name}-%Y'\n")
    };
    let path = file(&dir, &["data_dir = 'state'\n[sources.app]\ntype = 'stdin'\n", &*sink("a"), &*sink("b")].concat());
    let output = skidder(&["init", "elasticsearch", "-c", &path, "--sink", "b"]);
    let template: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(template["index_patterns"], serde_json::json!(["b-*"]));
    let which = skidder(&["init", "elasticsearch", "-c", &path]);
    assert!(which.status.code() == Some(1) && text(&which.stderr).contains("--sink NAME"), "{}", text(&which.stderr));
    assert_eq!(skidder(&["init", "teapot"]).status.code(), Some(2));
}

#[test]
fn validate_says_that_a_store_is_not_there_unless_told_to_stay_off_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let sink = "[sinks.es]\ntype = 'elasticsearch'\ninputs = ['app']\nendpoints = ['http://u:secret@127.0.0.1:1']\n";
    let path = file(&dir, &["data_dir = 'state'\n[sources.app]\ntype = 'stdin'\n", sink].concat());
    let output = skidder(&["validate", "-c", &path]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("error: sink `es`: the store cannot be reached: no connection"), "{stderr}");
    assert!(text(&output.stdout).starts_with("Configuration is valid.\n") && !stderr.contains("secret"), "{stderr}");
    let output = skidder(&["validate", "--offline", "-c", &path]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}
