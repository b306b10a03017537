//! The kept corpus as an ordinary test: every input that once found something, or leads somewhere new, again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::TARGETS;

/// Hundreds of small files: a corpus that a person can look through and that costs a checkout nothing.
const FILES: usize = 1500;
const BYTES: u64 = 1 << 20;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut all: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

/// A panic names the input: libtest shows what was printed last.
#[test]
#[expect(clippy::print_stdout, reason = "shown only when the test fails")]
fn every_input_of_the_kept_corpus_is_taken_well() {
    let (mut count, mut bytes) = (0, 0);
    for (name, target) in TARGETS {
        let inputs = files(&fuzz_dir().join("corpus").join(name));
        assert!(!inputs.is_empty(), "{name}: no corpus");
        for path in inputs {
            let data = fs::read(&path).unwrap();
            println!("{}", path.display());
            target(&data);
            count += 1;
            bytes += data.len() as u64;
        }
    }
    assert!(count <= FILES && bytes <= BYTES, "{count} files, {bytes} bytes: minimise the corpus");
}

#[test]
fn every_parser_has_its_target_and_its_corpus() {
    let want: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |dir: &str| -> BTreeSet<String> {
        let stem = |p: PathBuf| p.file_stem().unwrap().to_string_lossy().into_owned();
        files(&fuzz_dir().join(dir)).into_iter().map(stem).collect()
    };
    assert_eq!(stems("fuzz_targets"), want);
    assert_eq!(stems("corpus"), want);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not in Cargo.toml"
        );
        let body = fs::read_to_string(fuzz_dir().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(body.contains(&format!("gray_userspace::fuzz::{name}(")), "{name} calls something else");
    }
}
