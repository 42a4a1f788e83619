//! Drives a redis-server from outside, with its own clients.

use crate::bench::model::{Unit, Value};
use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a driver found.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Driven {
    /// The same on every side.
    pub(crate) answer: String,
    pub(crate) values: Vec<Value>,
}

/// What a redis-server is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    /// Where the server and the clients run; the socket is here.
    pub(super) directory: PathBuf,
    /// In redis's protocol, what fills it.
    pub(super) fill: PathBuf,
    pub(super) keys: u64,
    /// GETs that are timed.
    pub(super) requests: u64,
    /// For each client.
    pub(super) timeout: Duration,
}

/// The socket, by a name that is short wherever the directory is.
pub(super) const SOCKET: &str = "redis.socket";

/// Clients that ask at the same time.
const CLIENTS: u64 = 8;

/// The longest that a server takes to start.
const START: Duration = Duration::from_secs(60);

/// How often an end is looked for.
const TICK: Duration = Duration::from_millis(5);

/// Every value in the order of its key, as one digest. The server answers, so that every version knows the words.
const DIGEST: &str = "\
local sum = ''
for key = 0, tonumber(ARGV[1]) - 1 do
  sum = redis.sha1hex(sum .. (redis.call('GET', string.format('key:%012d', key)) or 'none'))
end
return sum";

impl Load {
    /// Fills the server, times GETs, takes its digest, and ends it. `is_over` says whether the server has ended: nobody
    /// waits for its socket any longer then.
    pub(crate) fn drive(&self, is_over: &dyn Fn() -> bool) -> Result<Driven, String> {
        self.await_server(is_over)?;
        let begun = Instant::now();
        let filled = self.client("redis-cli", &["--pipe"], Some(&self.fill))?;
        let fill = begun.elapsed();
        if !filled.contains("errors: 0,") {
            return Err(format!("redis-cli --pipe: {}", filled.trim().replace('\n', "; ")));
        }
        let get = self.time_gets()?;
        let keys = self.keys.to_string();
        let digest = self.client("redis-cli", &["EVAL", DIGEST, "0", &keys], None)?;
        let size = self.client("redis-cli", &["DBSIZE"], None)?;
        // The server closes the connection instead of an answer.
        let _ = self.client("redis-cli", &["SHUTDOWN", "NOSAVE"], None);
        let value = |metric: &str, time: Duration| Value {
            metric: metric.into(),
            unit: Unit::Seconds,
            value: time.as_secs_f64(),
        };
        let answer = format!("{} keys, {}", size.trim(), digest.trim());
        Ok(Driven { answer, values: vec![value("fill", fill), value("get", get)] })
    }

    /// redis-benchmark draws keys uniformly.
    fn time_gets(&self) -> Result<Duration, String> {
        let options = [CLIENTS, self.requests, self.keys].map(|number| number.to_string());
        let [clients, requests, keys] = options.each_ref().map(String::as_str);
        let begun = Instant::now();
        let options = ["-t", "get", "-c", clients, "-n", requests, "-r", keys, "--csv"];
        self.client("redis-benchmark", &options, None)?;
        Ok(begun.elapsed())
    }

    fn await_server(&self, is_over: &dyn Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while !self.client("redis-cli", &["PING"], None).is_ok_and(|said| said.trim() == "PONG") {
            if is_over() {
                return Err("redis-server ended before it listened".into());
            }
            if Instant::now() > deadline {
                return Err(format!("redis-server did not listen within {} s", START.as_secs()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What a client says. One that takes too long is killed.
    fn client(&self, name: &str, options: &[&str], stdin: Option<&PathBuf>) -> Result<String, String> {
        let said = |error: &dyn Display| format!("{name}: {error}");
        let stdin = match stdin {
            Some(path) => File::open(path).map_err(|error| said(&error))?.into(),
            None => Stdio::null(),
        };
        let mut command = Command::new(name);
        command.args(["-s", SOCKET]).args(options).current_dir(&self.directory);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| said(&error))?;
        let deadline = Instant::now() + self.timeout;
        let status = loop {
            match child.try_wait().map_err(|error| said(&error))? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(said(&format!("no end after {} s", self.timeout.as_secs())));
                }
                None => thread::sleep(TICK),
            }
        };
        // A few lines: they fit into the pipe.
        let mut text = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut text).map_err(|error| said(&error))?;
        }
        if status.success() { Ok(text) } else { Err(said(&format!("{status} {}", text.trim()))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load(directory: &std::path::Path) -> Load {
        let timeout = Duration::from_millis(50);
        Load { directory: directory.into(), fill: "/dev/null".into(), keys: 1, requests: 1, timeout }
    }

    #[test]
    fn a_server_that_has_ended_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let said = load(directory.path()).drive(&|| true).unwrap_err();
        assert_eq!(said, "redis-server ended before it listened");
    }

    #[test]
    fn a_client_that_hangs_or_fails_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let load = load(directory.path());
        // tail knows no option -s without seconds.
        assert_eq!(
            load.client("quire-no-such", &[], None).unwrap_err().split(':').next(),
            Some("quire-no-such")
        );
        let said = load.client("tail", &[], None).unwrap_err();
        assert!(said.starts_with("tail: "), "{said}");
        fs::write(directory.path().join("slow"), "#!/bin/sh\nexec sleep 60\n").unwrap();
        let slow = directory.path().join("slow");
        fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let said = load.client(slow.to_str().unwrap(), &[], None).unwrap_err();
        assert!(said.ends_with("no end after 0 s"), "{said}");
    }
}
