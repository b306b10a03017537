//! nginx with LuaJIT as an HTTP proxy that chooses by a header, one worker, with a configuration of its own, as a guard.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::choice::{self, Choice};
use super::proxy;
use crate::command::Daemon;
use crate::place::Place;

/// Debian's packages libnginx-mod-http-ndk and libnginx-mod-http-lua.
const MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];

/// nginx that looks a header up in a shared dictionary.
#[derive(Debug)]
pub struct NginxLua {
    daemon: Daemon,
}

impl NginxLua {
    /// Whether its modules are installed.
    pub fn is_here() -> bool {
        MODULES.iter().all(|m| Path::new(m).is_file())
    }

    /// Listening when this returns; `temp` is the lab's directory.
    pub fn start(place: &Place, temp: &Path, choice: &Choice) -> Result<Self> {
        let dir = proxy::directory(temp, "lua", place)?;
        let values = choice::list(&dir, &choice.values, "")?;
        let conf = dir.join("nginx.conf");
        fs::write(&conf, configuration(&dir, &values, choice)).context("write nginx.conf")?;
        let mut command = place.command("nginx");
        let _ = command.arg("-p").arg(&dir).arg("-c").arg(&conf).args(["-e", "stderr"]);
        let daemon = choice::listen("nginx and Lua", &mut command, &dir.join("log"), place, choice)?;
        Ok(Self { daemon })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }
}

/// One process does it all, so that killing it leaves no worker behind. `set_by_lua` is the cheapest place to choose in: it makes no
/// coroutine. Connections to servers are kept; bodies stay in memory.
fn configuration(dir: &Path, values: &Path, choice: &Choice) -> String {
    let Choice { listen, header, listed, other, .. } = choice;
    let modules: String = MODULES.iter().map(|m| format!("load_module {m};\n")).collect();
    let variable = header.to_ascii_lowercase().replace('-', "_");
    let upstream = |name: &str, to| {
        format!(
            "    upstream {name} {{ server {to}; keepalive 256; keepalive_requests 100000000; keepalive_timeout 1h; }}\n"
        )
    };
    let upstreams = upstream("listed", listed) + &upstream("other", other);
    let (dir, values) = (dir.display(), values.display());
    format!(
        r#"{modules}daemon off;
master_process off;
worker_processes 1;
user root;
pid {dir}/pid;
error_log stderr warn;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 1h;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/body;
    fastcgi_temp_path {dir}/body;
    uwsgi_temp_path {dir}/body;
    scgi_temp_path {dir}/body;
    lua_shared_dict values 8m;
    init_by_lua_block {{
        for value in io.lines("{values}") do assert(ngx.shared.values:safe_set(value, true)) end
    }}
{upstreams}    server {{
        listen {listen} backlog=4096;
        location / {{
            set_by_lua_block $to {{
                local value = ngx.var.http_{variable}
                return value and ngx.shared.values:get(value) and "listed" or "other"
            }}
            proxy_pass http://$to;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffer_size 16k;
            proxy_buffers 16 64k;
            proxy_busy_buffers_size 128k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"#
    )
}
