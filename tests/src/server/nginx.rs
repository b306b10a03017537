//! A real nginx with one worker, its own prefix and configuration, as a guard. Nothing of the host's is used.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::iperf::listeners;
use crate::command::{Daemon, output, wait_for};
use crate::pattern;
use crate::place::Place;

/// Size of `/file`, bytes.
pub const FILE_BYTES: usize = 10_000_000;

/// What answers on a port.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub port: u16,
    /// With a certificate of its own that nobody knows.
    pub tls: bool,
    /// HTTP/2 with prior knowledge, and nothing else.
    pub h2: bool,
    /// Of so many in a hundred requests that carry a nonce, the connection is reset; others, such as a tester's, are answered.
    pub resets: u8,
}

/// nginx on all addresses of its namespace.
///
/// `GET /health` answers 200, `GET /` the JSON of our own server (`name`, `version`, `nonce` from the query, `peer`,
/// `peer_port`, `server`), `GET /file` 10 MB of `pattern`, `GET /bulk` a file of the
/// caller's (`offer`), `PUT /up/NAME` stores the body for `uploaded`.
#[derive(Debug)]
pub struct Nginx {
    daemon: Daemon,
    prefix: PathBuf,
    pub port: u16,
    pub version: String,
}

impl Nginx {
    /// `temp` is the lab's directory; `name` and `port` make the prefix unique inside it.
    pub fn start(place: &Place, temp: &Path, name: &str, version: &str, port: u16) -> Result<Self> {
        Self::serving(place, temp, &[Site { name, version, port, tls: false, h2: false, resets: 0 }])
    }

    /// The same over TLS, with a certificate of its own that nobody knows.
    pub fn start_tls(place: &Place, temp: &Path, name: &str, version: &str, port: u16) -> Result<Self> {
        Self::serving(place, temp, &[Site { name, version, port, tls: true, h2: false, resets: 0 }])
    }

    /// One process for all of these; `port` and `version` are the first one's.
    pub fn serving(place: &Place, temp: &Path, sites: &[Site<'_>]) -> Result<Self> {
        let Site { version, port, .. } = *sites.first().context("nginx serves nothing")?;
        let (prefix, conf) = write(place, temp, sites)?;
        let mut command = place.command("nginx");
        let _ = command.arg("-p").arg(&prefix).arg("-c").arg(&conf).args(["-e", "stderr"]);
        let mut daemon = Daemon::spawn("nginx", &mut command, &prefix.join("log"))?;
        wait_for("nginx to listen", Duration::from_secs(10), || {
            daemon.check_alive()?;
            Ok(sites.iter().all(|s| listeners(place, s.port) == 2)) // v4 and v6
        })?;
        Ok(Self { daemon, prefix, port, version: version.into() })
    }

    /// The body that was sent with `PUT /up/NAME`.
    pub fn uploaded(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.prefix.join("www/up").join(name);
        fs::read(&path).with_context(|| format!("read the upload {}", path.display()))
    }

    /// `GET /bulk` answers this file.
    pub fn offer(&self, file: &Path) -> Result<()> {
        let to = self.prefix.join("www/bulk");
        std::os::unix::fs::symlink(file, &to).with_context(|| format!("make {}", to.display()))
    }

    pub fn url(&self, address: std::net::IpAddr, path: &str) -> String {
        format!("http://{}{path}", SocketAddr::new(address, self.port))
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.daemon.kill9()
    }
}

/// The directory and the configuration of an nginx that somebody else starts: `nginx -p DIR -c FILE`. It writes its id to `DIR/pid`.
pub fn write(place: &Place, temp: &Path, sites: &[Site<'_>]) -> Result<(PathBuf, PathBuf)> {
    let Site { name, port, .. } = *sites.first().context("nginx serves nothing")?;
    let prefix = temp.join(format!("nginx-{name}-{}-{port}", place.ns.name()));
    fs::create_dir_all(prefix.join("www/up")).context("make nginx's directories")?;
    fs::create_dir_all(prefix.join("body")).context("make nginx's directories")?;
    fs::write(prefix.join("www/file"), pattern::bytes(FILE_BYTES)).context("write nginx's file")?;
    let conf = prefix.join("nginx.conf");
    if sites.iter().any(|s| s.tls) {
        certificate(&prefix)?;
    }
    fs::write(&conf, configuration(&prefix, sites)).context("write nginx.conf")?;
    Ok((prefix, conf))
}

/// Key and certificate, self-signed.
fn certificate(prefix: &Path) -> Result<()> {
    let mut command = std::process::Command::new("openssl");
    let _ = command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=gray-lab", "-keyout"])
        .arg(prefix.join("key"))
        .arg("-out")
        .arg(prefix.join("cert"));
    let out = output(&mut command)?;
    ensure!(out.status.success(), "openssl: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// One process does it all (`master_process off`), so that killing it leaves no worker behind.
fn configuration(prefix: &Path, sites: &[Site<'_>]) -> String {
    let prefix = prefix.display();
    let servers: String = sites.iter().map(|s| server(&prefix.to_string(), s)).collect();
    format!(
        r"daemon off;
master_process off;
worker_processes 1;
user root;
pid {prefix}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    # A client that reads nothing is not closed on, however slow the machine is.
    send_timeout 1h;
    client_max_body_size 100m;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/body;
    fastcgi_temp_path {prefix}/body;
    uwsgi_temp_path {prefix}/body;
    scgi_temp_path {prefix}/body;
{servers}}}
"
    )
}

fn server(prefix: &str, Site { name, version, port, tls, h2, resets }: &Site<'_>) -> String {
    let ssl = if *tls { " ssl" } else { "" };
    let h2 = if *h2 { " http2" } else { "" };
    let keys = match tls {
        true => format!("ssl_certificate {prefix}/cert;\n        ssl_certificate_key {prefix}/key;"),
        false => String::new(),
    };
    // 444 closes without an answer; with this switch by a reset.
    let (fate, breaks) = match resets {
        0 => (String::new(), String::new()),
        n => (
            format!(
                "    split_clients \"$remote_addr:$remote_port:$arg_nonce\" $fate{port} {{ {n}% bad; * good; }}\n    \
                 map \"$fate{port}:$arg_nonce\" $broken{port} {{ \"~^bad:.\" 1; default 0; }}\n"
            ),
            format!("reset_timedout_connection on;\n            if ($broken{port}) {{ return 444; }}"),
        ),
    };
    format!(
        r#"{fate}    server {{
        listen {port}{ssl}{h2} backlog=4096;
        listen [::]:{port}{ssl}{h2} ipv6only=on backlog=4096;
        {keys}
        root {prefix}/www;
        location = /file {{ }}
        location = /bulk {{ sendfile on; }}
        location /up/ {{ dav_methods PUT; }}
        location = /health {{ return 200; }}
        location / {{
            {breaks}
            default_type application/json;
            return 200 '{{"name":"{name}","version":"{version}","nonce":"$arg_nonce","peer":"$remote_addr","peer_port":$remote_port,"server":"$server_addr"}}\n';
        }}
    }}
"#
    )
}
