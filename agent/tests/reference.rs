//! Keeps `packaging/reference/` fresh: a file that is stale is written anew, and the test fails once to say so.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use skidder::config::{Builtin, FileSchema};

#[test]
fn generated_files_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/reference");
    let schema = FileSchema::of::<Builtin>();
    let files = [("skidder.reference.toml", schema.reference()), ("skidder.schema.json", schema.to_text())];
    let stale: Vec<&str> = files
        .iter()
        .filter(|(name, text)| std::fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text))
        .map(|(name, text)| {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
            *name
        })
        .collect();
    assert!(stale.is_empty(), "{stale:?} in packaging/reference were stale and have been written anew: commit them");
}
