//! The binary as a process: other users, pipes, exit codes.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod api_memory;

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output, Stdio},
};

use api_memory::serve;

fn gray(socket: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_gray"));
    let _ = c.env_remove("GRAY_SOCKET").env("GRAY_SOCKET", socket).args(args).stdin(Stdio::null());
    c
}

async fn output(mut c: Command) -> Output {
    tokio::task::spawn_blocking(move || c.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn group_members_operate_but_do_not_read_the_key() {
    if !std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0") {
        println!("skipped: needs root to become another user");
        return;
    }
    const NOBODY: u32 = 65_534;
    let s = serve().await;
    // The group of the socket is the group that operates.
    std::os::unix::fs::chown(&s.socket, None, Some(NOBODY)).unwrap();
    std::fs::set_permissions(s.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory may be closed to others.
    let bin = s.dir.path().join("gray");
    let _ = std::fs::copy(env!("CARGO_BIN_EXE_gray"), &bin).unwrap();
    let member = |gid: u32, args: &[&str]| {
        let mut c = Command::new(&bin);
        let _ = c
            .env("GRAY_SOCKET", &s.socket)
            .args(args)
            .uid(NOBODY)
            .gid(gid)
            .stdin(Stdio::null())
            .current_dir("/");
        c
    };

    let done = output(member(NOBODY, &["cohort", "add", "early-apps", "app1"])).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(s.core.state().history[0].who, "uid:nobody");
    let done = output(member(NOBODY, &["key", "export"])).await;
    assert_eq!(done.status.code(), Some(3));
    assert_eq!(
        text(&done.stderr),
        "error: uid:nobody has the role operator; this needs admin\nhelp: ask somebody with that role\n"
    );
    // Not of the group: the file's mode keeps them out.
    let done = output(member(12_345, &["status"])).await;
    assert_eq!(done.status.code(), Some(4), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("no permission"), "{}", text(&done.stderr));
    // Root is admin.
    assert_eq!(output(gray(&s.socket, &["key", "export"])).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_has_the_exit_codes_of_the_contract() {
    let s = serve().await;
    for (code, args) in
        [(0, &["status"][..]), (1, &["cohort", "show", "none"]), (2, &["status", "--nonsense"])]
    {
        assert_eq!(output(gray(&s.socket, args)).await.status.code(), Some(code), "{args:?}");
    }
    assert_eq!(output(gray(&s.dir.path().join("none"), &["status"])).await.status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_panic() {
    let s = serve().await;
    let script =
        format!("{} completions bash | head -n 1; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_gray"));
    let mut c = Command::new("bash");
    let _ = c.args(["-c", &script]);
    let done = output(c).await;
    assert_eq!((text(&done.stdout).lines().last(), text(&done.stderr).as_str()), (Some("0"), ""));

    // The reader goes while events are followed.
    let script = format!(
        "{} --socket {} events --follow | head -n 1; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_gray"),
        s.socket.display()
    );
    let reader =
        tokio::task::spawn_blocking(move || Command::new("bash").args(["-c", &script]).output().unwrap());
    while !reader.is_finished() {
        let _ = s.core.events.send(api_memory::event("shop", "198.18.1.3:1"));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let done = reader.await.unwrap();
    assert_eq!((text(&done.stdout).lines().last(), text(&done.stderr).as_str()), (Some("0"), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_colour_without_a_terminal() {
    let s = serve().await;
    let done = output(gray(&s.socket, &["get", "instances"])).await;
    assert!(!text(&done.stdout).contains('\x1b'));
}
