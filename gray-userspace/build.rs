fn main() { let out = std::env::var("OUT_DIR").unwrap(); std::fs::copy("../target/bpf/gray.o", format!("{out}/gray.o")).unwrap(); println!("cargo:rerun-if-changed=../target/bpf/gray.o"); }
