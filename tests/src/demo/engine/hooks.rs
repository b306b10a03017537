//! The programs that the demo's releases run, as an administrator would write them: a few lines of shell each. They start and end
//! real nginx.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{GRAY, OLD, SERVICES};
use crate::command::wait_for;
use crate::demo::stage::Stage;
use crate::server::nginx::{self, Nginx, Site};
use crate::world::vip4;

/// Of what is broken on purpose: this version of this service.
const BROKEN: (&str, &str) = ("api", "2.1");
const RESETS: u8 = 20;

/// `deploy SERVICE VERSION`: what `SERVICE-VERSION` describes is started, and answers when this ends.
const DEPLOY: &str = r#"
. "$0.d/$1-$2"
nsenter --net="$NS" nginx -p "$DIR" -c "$CONF" -e "$DIR/log" > "$DIR/out" 2>&1 &
for _ in $(seq 100); do
    nsenter --net="$NS" curl -so /dev/null "http://127.0.0.1:$PORT/health" && echo "$1 $2 answers" && exit 0
    sleep 0.1
done
exit 1"#;

/// `retire SERVICE VERSION`: it is ended.
const RETIRE: &str = r#"
. "${0%/*}/deploy.d/$1-$2"
kill -QUIT "$(cat "$DIR/pid")" && echo "$1 $2 is offline""#;

/// `ask-as-tester SERVICE VERSION`: a tester who dials the service is answered by this version.
const ASK: &str = r#"
. "${0%/*}/deploy.d/$1-$2"
nsenter --net="$TESTER" curl -s --interface 198.18.10.5 "http://$VIP/" | grep "\"version\":\"$2\"""#;

/// Writes them, and starts 1.0 of all services.
pub(super) fn begin(stage: &Stage) -> Result<Vec<Nginx>> {
    let (dir, world) = (stage.hooks(), &stage.world);
    for (name, text) in [("deploy", DEPLOY), ("retire", RETIRE), ("ask-as-tester", ASK)] {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let about = dir.join("deploy.d");
    fs::create_dir_all(&about)?;
    let tester = world.clients.first().context("the world has clients")?.ns.path();
    let mut old = Vec::new();
    for (s, service) in SERVICES.into_iter().enumerate() {
        for (version, backend, base) in [("1.0", OLD, 8081), ("2.0", GRAY, 8081), ("2.1", OLD, 8091)] {
            let place = world.backends[backend].place();
            let port = base + s as u16;
            let name = format!("{service}-{version}");
            let resets = if (service, version) == BROKEN { RESETS } else { 0 };
            let sites = [Site { name: &name, version, port, tls: false, h2: false, resets }];
            let (prefix, conf) = nginx::write(&place, world.temp(), &sites)?;
            let (prefix, conf, tester) = (prefix.display(), conf.display(), tester.display());
            let (ns, vip) = (place.ns.path(), vip4(s + 1));
            let text = format!(
                "NS={} DIR={prefix} CONF={conf} PORT={port} VIP={vip} TESTER={tester}\n",
                ns.display()
            );
            fs::write(about.join(&name), text)?;
            if version == "1.0" {
                old.push(Nginx::serving(&place, world.temp(), &sites)?);
            }
        }
    }
    // Retired by its id: the file is written a moment after it listens.
    for service in SERVICES {
        let text = fs::read_to_string(about.join(format!("{service}-1.0")))?;
        let dir = text.split(' ').find_map(|w| w.strip_prefix("DIR=")).context("DIR")?.to_owned();
        wait_for("nginx to write its id", Duration::from_secs(10), || {
            Ok(fs::metadata(format!("{dir}/pid")).is_ok_and(|m| m.len() > 0))
        })?;
    }
    Ok(old)
}
