//! The documents of a directory, in the order of their names. Must not know what becomes of them.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{api::types::SourceText, config::limits::TEXT_BYTES};

#[derive(Debug)]
pub struct Found {
    pub sources: Vec<SourceText>,
    /// Of names and texts.
    pub digest: String,
}

/// Every `.yaml`, `.yml` and `.json` that is not hidden, links followed.
pub(super) fn read(dir: &Path) -> io::Result<Found> {
    // Who writes here decides where clients go.
    if fs::metadata(dir)?.permissions().mode() & 0o002 != 0 {
        return Err(io::Error::other("everybody may write into the directory: chmod o-w"));
    }
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let known = [".yaml", ".yml", ".json"].iter().any(|e| name.ends_with(e));
        if known && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    let (mut sources, mut hash, mut room) = (Vec::new(), Sha256::new(), TEXT_BYTES as u64 + 1);
    for name in names {
        let path = dir.join(&name);
        let of = |e: io::Error| io::Error::new(e.kind(), format!("{name}: {e}"));
        let mut text = String::new();
        let taken = open(&path).and_then(|f| f.take(room).read_to_string(&mut text)).map_err(of)?;
        room = room.saturating_sub(taken as u64);
        if room == 0 {
            return Err(io::Error::other(format!("the documents are larger than {} MiB", TEXT_BYTES >> 20)));
        }
        for part in [name.as_bytes(), text.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        sources.push(SourceText { name: path.display().to_string(), text });
    }
    let digest = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Found { sources, digest })
}

/// A file; what else has such a name (a FIFO, above all) could be waited for without end.
fn open(path: &Path) -> io::Result<fs::File> {
    let file = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d2_d3_documents_in_the_order_of_names() {
        let tmp = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(tmp.path().join(name), text).unwrap();
        for name in ["b.yaml", "a.json", "c.yml", ".d.yaml", "e.yaml~", "f.txt"] {
            put(name, name);
        }
        fs::create_dir(tmp.path().join("g")).unwrap();
        let first = read(tmp.path()).unwrap();
        let texts: Vec<_> = first.sources.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "c.yml"]);
        assert_eq!(read(tmp.path()).unwrap().digest, first.digest);
        put("f.txt", "other");
        assert_eq!(read(tmp.path()).unwrap().digest, first.digest, "not a document");
        put("b.yaml", "other");
        assert_ne!(read(tmp.path()).unwrap().digest, first.digest);
        put("b.yaml", "b.yaml");
        fs::rename(tmp.path().join("b.yaml"), tmp.path().join("bb.yaml")).unwrap();
        assert_ne!(
            read(tmp.path()).unwrap().digest,
            first.digest,
            "routes of files stand in the order of names"
        );
    }

    #[test]
    fn d3_what_cannot_be_trusted_or_read_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
        assert!(read(tmp.path()).unwrap_err().to_string().starts_with("a.yaml: "));
        fs::remove_file(tmp.path().join("a.yaml")).unwrap();
        fs::create_dir(tmp.path().join("b.yaml")).unwrap();
        assert!(read(tmp.path()).unwrap_err().to_string().starts_with("b.yaml: "));
        fs::remove_dir(tmp.path().join("b.yaml")).unwrap();
        let fifo = tmp.path().join("c.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(read(tmp.path()).unwrap_err().to_string(), "c.yaml: it is no file");
        fs::remove_file(fifo).unwrap();
        fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(read(tmp.path()).unwrap_err().to_string().contains("o-w"));
        assert!(read(&tmp.path().join("none")).is_err());
    }
}
