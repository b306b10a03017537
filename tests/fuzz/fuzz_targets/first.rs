#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| gray_userspace::fuzz::first(data));
