//! Signs what webhooks are sent: HMAC-SHA-256 (RFC 2104) with a secret of the agent's directory.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::agent::health::{plain, unchanged};

const BLOCK: usize = 64;

/// The secret in a file that only its owner may read; white space around it does not count.
pub fn secret(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    let told = |e: &std::io::Error| format!("{}: {}", path.display(), plain(e));
    let meta = unchanged(dir, &path)?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(format!("{} may be read by others: chmod 600 it", path.display()));
    }
    let bytes = std::fs::read(&path).map_err(|e| told(&e))?;
    match bytes.trim_ascii() {
        [] => Err(format!("{} is empty", path.display())),
        secret => Ok(secret.to_vec()),
    }
}

/// `sha256=` and 64 hex digits.
pub fn signature(secret: &[u8], message: &[u8]) -> String {
    let hex: String = hmac(secret, message).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

fn hmac(secret: &[u8], message: &[u8]) -> [u8; 32] {
    let mut key = [0; BLOCK];
    if secret.len() > BLOCK {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    let round = |pad: u8, rest: &[u8]| -> [u8; 32] {
        let mut h = Sha256::new();
        h.update(key.map(|b| b ^ pad));
        h.update(rest);
        h.finalize().into()
    };
    round(0x5c, &round(0x36, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, cases 1, 2 and 6.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        for (key, message, want) in [
            (vec![0x0b; 20], "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe".to_vec(),
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(signature(&key, message.as_bytes()), format!("sha256={want}"));
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "  s3cret\n").unwrap();
        for (mode, ok) in [(0o600, true), (0o400, true), (0o640, false), (0o644, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secret(dir.path(), "key").is_ok(), ok, "{mode:o}");
        }
        assert!(secret(dir.path(), "none").unwrap_err().contains("no such file"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(dir.path(), "key").unwrap(), b"s3cret");
        std::fs::write(&path, "\n").unwrap();
        assert!(secret(dir.path(), "key").is_err());
    }
}
