use gray_userspace::kernel::*;
fn main() {
    let p = Pins::open_dir(std::path::Path::new("/sys/fs/bpf/graytry")).unwrap();
    match load(&p, 65536) { Ok(l) => for (n, i) in l.verified() { println!("{n} {i}") }, Err(e) => { let s = format!("{e:?}").replace("\\n", "\n"); let n = s.len(); println!("{}\n...\n{}", &s[..n.min(500)], &s[n.saturating_sub(6000)..]); } }
    for f in Pins::everything(std::path::Path::new("/sys/fs/bpf/graytry")) { let _ = std::fs::remove_file(&f); let _ = std::fs::remove_dir(&f); }
    let _ = std::fs::remove_dir("/sys/fs/bpf/graytry");
}
