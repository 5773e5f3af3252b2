//! Fuzzes the parser `streamed` of `lifeboat_testkit::parsers`. It must never hold a check of its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lifeboat_testkit::parsers::run("streamed", data));
