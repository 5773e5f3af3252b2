//! A Garage behind a proxy as a process of its own, for the benchmark, which knows no crate of ours.
//! It must never outlive whoever started it: it ends with its standard input.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Duration;

use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::proxy::HttpProxy;

/// Says where the bucket is, then answers each line: `round-trip MILLISECONDS`, or `traffic`, which is what passed since
/// it was asked for last.
fn main() -> std::io::Result<()> {
    let garage = Garage::start();
    let upstream = garage.endpoint();
    let upstream = upstream.trim_start_matches("http://");
    let proxy = HttpProxy::start(upstream.parse().expect("an address"));
    let mut out = stdout().lock();
    writeln!(
        out,
        r#"{{"endpoint":"{}","bucket":"{}","key_id":"{}","secret":"{}","region":"{}"}}"#,
        proxy.url(),
        garage.bucket(),
        garage.key_id(),
        garage.secret(),
        garage.region()
    )?;
    for line in stdin().lock().lines() {
        let line = line?;
        let milliseconds = line.strip_prefix("round-trip ").map(str::parse);
        if let Some(Ok(milliseconds)) = milliseconds {
            proxy.set_round_trip(Duration::from_millis(milliseconds));
            writeln!(out, "{{}}")?;
            continue;
        }
        let traffic = proxy.traffic();
        proxy.reset_traffic();
        writeln!(
            out,
            r#"{{"connections":{},"requests":{},"up_bytes":{},"down_bytes":{}}}"#,
            traffic.connections,
            traffic.total_requests(),
            traffic.up_bytes,
            traffic.down_bytes
        )?;
    }
    Ok(())
}
