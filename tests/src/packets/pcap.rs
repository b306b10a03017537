//! Frames of a failed case as a classic pcap file, for tcpdump and Wireshark.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;

/// The file's bytes; frames are a second apart, so that their order shows.
pub fn bytes(frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    // Magic of microseconds, version 2.4, UTC, no accuracy, whole frames.
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 0x4_0000, ETHERNET] {
        out.extend(word.to_le_bytes());
    }
    for (second, frame) in (0_u32..).zip(frames) {
        let len = frame.len() as u32;
        for word in [second, 0, len, len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(*frame);
    }
    out
}

/// Writes `target/pcap/NAME.pcap`; the answer says where it is, or why there is none.
pub fn save(name: &str, frames: &[&[u8]]) -> String {
    match write(name, frames) {
        Ok(path) => format!("pcap: {} (before, in, out, expected)", path.display()),
        Err(e) => format!("no pcap: {e}"),
    }
}

fn write(name: &str, frames: &[&[u8]]) -> io::Result<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pcap");
    fs::create_dir_all(&dir)?;
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = dir.canonicalize()?.join(format!("{plain}.pcap"));
    fs::write(&path, bytes(frames))?;
    Ok(path)
}
