//! A real nginx with a configuration, prefix and logs of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::access_log::Entry;
use crate::content;
use crate::digest::DigestServer;
use crate::host::Host;
use crate::process::Process;
use crate::wait::{wait_for, wait_until};
use rustix::process::{Resource, getrlimit};

/// Files below the root: name, window of [`content`](crate::content()).
pub(crate) const FILES: [(&str, usize, usize); 3] =
    [("small.txt", 1_000, 64), ("1k.bin", 2_000, 1 << 10), ("1m.bin", 4_000, 1 << 20)];

/// A running nginx. Ends when dropped.
///
/// | location | what it does |
/// |---|---|
/// | `/small.txt`, `/1k.bin`, `/1m.bin` | static files |
/// | `/slow/<file>` | the same at 256 KiB/s |
/// | `/quiet/<file>` | the same without a line in the log |
/// | `/digest` | answers with the hash of the body, up to 32 MiB |
/// | `/pause/<before>/<within>` | the same after so many ms, with so many more in the middle of the answer |
/// | `/made/<offset>/<len>` | makes content; with `?chunked` in chunks |
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    host: Host,
    prefix: PathBuf,
    _digest: DigestServer,
}

impl Nginx {
    /// Starts it on port 80 of `host`, IPv4 and IPv6, and waits until it answers.
    ///
    /// # Errors
    /// When nginx is missing, refuses its configuration, or does not come up in 10 s.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_on(host, 80)
    }

    /// The same on another port.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_on(host: &Host, port: u16) -> Result<Self> {
        Self::start_with(host, port, "", "", "")
    }

    /// The same on port 80 with further locations, as nginx's configuration has them.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_with_locations(host: &Host, locations: &str) -> Result<Self> {
        Self::start_on_with_locations(host, 80, locations)
    }

    /// The same on another port.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_on_with_locations(host: &Host, port: u16, locations: &str) -> Result<Self> {
        Self::start_with(host, port, "", "", locations)
    }

    /// The same on port 80, where each connection begins with a PROXY protocol header.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_behind_proxy(host: &Host) -> Result<Self> {
        Self::start_with(host, 80, "proxy_protocol", "", "")
    }

    /// The same on another port where HTTP/2 is spoken, and nothing else.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_http2_on(host: &Host, port: u16, locations: &str) -> Result<Self> {
        Self::start_with(host, port, "http2", "", locations)
    }

    /// The same on another port with further directives of the `http` block, such as an `upstream`,
    /// and further locations.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_on_with_http(host: &Host, port: u16, http: &str, locations: &str) -> Result<Self> {
        Self::start_with(host, port, "", http, locations)
    }

    fn start_with(
        host: &Host,
        port: u16,
        listen: &str,
        http: &str,
        locations: &str,
    ) -> Result<Self> {
        let prefix = host.folder().join(format!("nginx-{port}"));
        fs::create_dir_all(prefix.join("files")).context("make nginx's folder")?;
        for (name, offset, len) in FILES {
            fs::write(prefix.join("files").join(name), content::bytes(offset, len))?;
        }
        let digest = DigestServer::start(&prefix.join("digest.sock"))?;
        let config = prefix.join("nginx.conf");
        fs::write(&config, configuration(&prefix, port, listen, http, locations))
            .context("write nginx.conf")?;
        let mut command = host.command("nginx");
        command.arg("-p").arg(&prefix).arg("-c").arg(&config);
        command.arg("-e").arg(prefix.join("error.log"));
        let process = host.spawn(&format!("nginx-{port}"), &mut command)?;
        let mut nginx = Self { process, host: host.clone(), prefix, _digest: digest };
        nginx.wait_until_up(port)?;
        Ok(nginx)
    }

    fn wait_until_up(&mut self, port: u16) -> Result<()> {
        wait_for("nginx", Duration::from_secs(10), || {
            if let Some(status) = self.process.try_status()? {
                bail!("nginx ended with {status}: {}", self.process.stderr().trim());
            }
            Ok(self.host.connect(self.host.at4(port), Duration::from_secs(1)).ok())
        })?;
        Ok(())
    }

    /// The process id of its master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends `signal` to the master.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Sends `signal` to the master and all workers: stopped or killed, the master alone would leave
    /// its workers serving.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal_all(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        // First the master, which would replace a worker.
        self.process.signal(signal)?;
        for child in children.context("find nginx's workers")?.split_whitespace() {
            let _ = kill(Pid::from_raw(child.parse()?), signal);
        }
        Ok(())
    }

    /// Every request logged until now. A request is logged when its response has been sent.
    ///
    /// # Errors
    /// When the log cannot be read or a line of it is not as configured.
    pub fn log(&self) -> Result<Vec<Entry>> {
        Entry::read(&self.prefix.join("access.log"))
    }

    /// How many requests are logged, without reading each.
    #[must_use]
    pub fn logged(&self) -> usize {
        let log = fs::read(self.prefix.join("access.log")).unwrap_or_default();
        log.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The log once it has `count` requests, or what it has after 10 s: nginx writes a line only after
    /// the client has the whole response.
    ///
    /// # Errors
    /// As [`Nginx::log`].
    pub fn log_of(&self, count: usize) -> Result<Vec<Entry>> {
        let _ = wait_until("log lines", Duration::from_secs(10), || {
            self.log().is_ok_and(|log| log.len() >= count)
        });
        self.log()
    }

    /// What nginx complained about.
    #[must_use]
    pub fn errors(&self) -> String {
        fs::read_to_string(self.prefix.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A killed master would leave its workers behind.
        let _ = self.process.stop(Signal::SIGTERM, Duration::from_secs(5));
    }
}

fn configuration(prefix: &Path, port: u16, listen: &str, http: &str, locations: &str) -> String {
    let prefix = prefix.display();
    // What may be opened anyway, lest nginx complains; no more than ten thousand clients need.
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20).min(1 << 20);
    let connections = files.min(32_768);
    format!(
        r#"user root;
daemon off;
worker_processes 2;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    log_format lab escape=json '{{"id":"$http_x_request_id","method":"$request_method",'
        '"uri":"$request_uri","status":$status,"request_length":$request_length,'
        '"response_length":$body_bytes_sent,"body_sha256":"$upstream_http_x_body_sha256",'
        '"completion":"$request_completion","connection":$connection,"at":$msec,"remote":"$remote_addr",'
        '"proxied":"$proxy_protocol_addr","forwarded":"$http_x_forwarded_for","port":$remote_port,'
        '"request_time":$request_time}}';
    access_log {prefix}/access.log lab;
    client_body_temp_path {prefix}/bodies;
    proxy_temp_path {prefix}/proxied;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    client_max_body_size 32m;
    keepalive_requests 1000000;
    keepalive_timeout 60s;
    default_type application/octet-stream;
    root {prefix}/files;
    upstream digest {{
        server unix:{prefix}/digest.sock;
        keepalive 32;
        keepalive_requests 1000000;
    }}
{http}
    server {{
        listen {port} default_server backlog=4096 {listen};
        listen [::]:{port} default_server backlog=4096 {listen};
        location / {{ }}
{locations}
        location /slow/ {{
            limit_rate 256k;
            alias {prefix}/files/;
        }}
        location /quiet/ {{
            access_log off;
            alias {prefix}/files/;
        }}
        location ~ ^/(digest|made) {{
            proxy_pass http://digest;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_hide_header X-Body-Sha256;
        }}
        location /pause/ {{
            proxy_pass http://digest;
            proxy_buffering off;
        }}
    }}
}}
"#
    )
}
