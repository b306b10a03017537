//! `gray release status --watch` in a real terminal: tmux, whose screen is read back.

use std::process::Command;

use gray_tests::command::run;

use super::*;

const DOCUMENT: &str = "release: shop-2.0
version: 2.0.0-gray.3
services: { shop: { gray: { version: '2.0' } } }
testers: beta
stages: [{ percent: 5, approval: true }, { percent: 25, approval: true }, { percent: 50 }, { percent: 100 }]
";

/// A server of its own; a drop ends it.
struct Tmux(String);

impl Tmux {
    fn start(shown: &Command, (columns, rows): (u16, u16)) -> Self {
        let tmux = Self(format!("gray-{}", std::process::id()));
        let mut command = tmux.command(&["-f", "/dev/null", "new-session", "-d", "-s", "watch"]);
        let _ = command.args(["-x", &columns.to_string(), "-y", &rows.to_string()]);
        for (name, value) in shown.get_envs().filter_map(|(n, v)| Some((n.to_str()?, v?.to_str()?))) {
            // Colours are what a terminal is known by.
            let value = if name == "NO_COLOR" { "" } else { value };
            let _ = command.args(["-e", &format!("{name}={value}")]);
        }
        // Said by a shell: tmux' own "Pane is dead" does not always come.
        let _ = command.args(["sh", "-c", "\"$@\"; echo \"ended with $?\"; exec sleep 600", "sh"]);
        let _ = run(command.arg(shown.get_program()).args(shown.get_args())).unwrap();
        tmux
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        let _ = command.args(["-L", &self.0]).args(args);
        command
    }

    fn screen(&self) -> String {
        let text = run(&mut self.command(&["capture-pane", "-p", "-t", "watch"])).unwrap();
        text.trim_end().to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

/// Numbers are `0`, spaces are one, times `T` and what the verdict says is its own: what is left is what it looks like.
fn shape(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut out = String::new();
        for c in line.trim().chars() {
            let c = if c.is_ascii_digit() { '0' } else { c };
            if !(out.ends_with(c) && matches!(c, '0' | ' ')) {
                out.push(c);
            }
        }
        for times in ["0.0 / 0.0 ms", "0.0 / 0 ms", "0 / 0 ms"] {
            out = out.replace(times, "T");
        }
        if out.starts_with("verdict") { "verdict".into() } else { out.replace(" - ", " T ") }
    };
    text.lines().map(line).collect()
}

fn documented() -> Vec<String> {
    let page = include_str!("../../../docs/releases.md");
    let block = page.split("<!-- watch -->\n```text\n").nth(1).unwrap().split("```").next().unwrap();
    shape(block.trim_end())
}

#[test]
fn f7_the_screen_that_is_watched_is_the_documented_one_and_follows_the_terminal() {
    let shop = Shop::start(true);
    let load = shop.load(0);
    let _ = shop.begin(DOCUMENT);
    shop.wait("shop-2.0", "ramp 1", "approve");
    let _ = shop.tell(&["approve", "shop-2.0", "--message", "looks well"]);
    shop.wait("shop-2.0", "ramp 2", "approve");
    // One that does not end by itself.
    let tmux = Tmux::start(&shop.agent.command(&["release", "status", "shop-2.0", "--watch"]), (130, 30));
    let mut screen = String::new();
    let same = wait_for("the documented screen", PATIENCE, || {
        screen = tmux.screen();
        Ok(shape(&screen) == documented())
    });
    note(&format!("the screen:\n{screen}"));
    assert!(
        same.is_ok(),
        "docs/releases.md shows another screen:\n{screen}\n{:#?}\n{:#?}",
        shape(&screen),
        documented()
    );
    assert!(
        screen.contains("##########>>>>>>>>>>....................  5 % and beta, [25 % and beta]"),
        "{screen}"
    );

    // A smaller terminal: cut, nothing wrapped, nothing left of the larger one.
    let _ = run(&mut tmux.command(&["resize-window", "-t", "watch", "-x", "40", "-y", "8"])).unwrap();
    wait_for("the smaller screen", PATIENCE, || {
        screen = tmux.screen();
        let lines: Vec<&str> = screen.lines().collect();
        Ok(lines.len() <= 8
            && lines[0].starts_with("release")
            && lines.iter().all(|l| l.len() <= 40)
            && !screen.contains("last"))
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{screen}"));

    // It ends with the release.
    let _ = run(&mut tmux.command(&["resize-window", "-t", "watch", "-x", "130", "-y", "30"])).unwrap();
    let _ = shop.tell(&["abort", "shop-2.0"]);
    let _ = shop.tell(&["close", "shop-2.0"]);
    wait_for("its end", PATIENCE, || {
        screen = tmux.screen();
        Ok(screen.contains("state     failed") && screen.contains("ended with 0"))
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{screen}"));
    load.stop().unwrap().assert_all_ok();
    drop(tmux);
    shop.finish();
}
