//! The same over real protocols: commands over S3 and REST, with a proxy between that fails by plan.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use lifeboat_repo::backend::{BackendOptions, Location, open as connect};
use lifeboat_testkit::proxy::{HttpFault, HttpPlan, HttpProxy};
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::s3::LocalS3;

use super::*;

/// Cases of one command over one protocol in which something goes wrong, in a normal run.
const HTTP_CASES: usize = 24;
/// The commands that go over the wire.
const OVER_HTTP: [&str; 7] = [
    "init",
    "backup",
    "restore",
    "check",
    "prune",
    "copy",
    "copy-from",
];
/// Without a byte for so long a request is stuck: short, because faults let it wait for nothing.
const STALL: Duration = Duration::from_millis(200);
/// For how long a command tries again what fails for ever.
const LASTING_FOR: Duration = Duration::from_millis(300);
/// Of the cases, so many in a hundred last.
const LASTING_PERCENT: u64 = 10;
/// Of the cases, so many in a hundred are storms.
const STORM_CASES_PERCENT: u64 = 15;
/// How many requests of a storm go wrong, in a hundred.
const STORM_PERCENT: u64 = 10;

/// Cases that once went wrong: they are tried each time.
const KNOWN: [&str; 2] = ["s3/init:1:ResetAfterHead", "rest/init:13:ResetInBody"];

/// A server, and the way to it that fails.
struct Site {
    name: &'static str,
    proxy: HttpProxy,
    /// The beginning of a location, past the proxy and through it.
    direct: String,
    through: String,
    options: BackendOptions,
    _server: Box<dyn std::any::Any>,
}

impl Site {
    fn s3() -> Self {
        let server = LocalS3::start();
        let proxy = HttpProxy::start(address(&server.endpoint()));
        let location = |endpoint: &str| format!("s3:{endpoint}/{}/", server.bucket());
        Self {
            name: "s3",
            direct: location(&server.endpoint()),
            through: location(&proxy.url()),
            options: server.options(),
            proxy,
            _server: Box::new(server),
        }
    }

    fn rest() -> Self {
        let server = RestServer::start(Options::default());
        let proxy = HttpProxy::start(server.address().parse().unwrap());
        Self {
            name: "rest",
            direct: server.repository(""),
            through: format!("rest:{}/", proxy.url()),
            options: server.options(),
            proxy,
            _server: Box::new(server),
        }
    }

    fn direct(&self, place: &str) -> Arc<dyn Backend> {
        self.connect(&self.direct, place, &self.options)
    }

    fn through(&self, place: &str) -> Arc<dyn Backend> {
        let options = BackendOptions {
            stall: STALL,
            ..self.options.clone()
        };
        self.connect(&self.through, place, &options)
    }

    fn connect(&self, begin: &str, place: &str, options: &BackendOptions) -> Arc<dyn Backend> {
        let location: Location = format!("{begin}{place}").parse().unwrap();
        connect(&location, options).unwrap()
    }
}

fn address(endpoint: &str) -> SocketAddr {
    endpoint.trim_start_matches("http://").parse().unwrap()
}

/// Puts files into a repository that does not exist yet; none if there are none.
fn fill(backend: &Arc<dyn Backend>, from: &MemoryBackend) {
    let files = from.files();
    if !files.is_empty() {
        backend.create().unwrap();
    }
    for (name, content) in files {
        backend.save(name, &[&content]).unwrap();
    }
}

/// All files of a repository.
fn drain(backend: &Arc<dyn Backend>) -> MemoryBackend {
    let memory = MemoryBackend::new();
    let mut names = vec![FileName::CONFIG];
    for kind in FileKind::NAMED {
        // Where nothing was made there is nothing to list.
        let _ = backend.list(kind, &mut |id, _| names.push(FileName::new(kind, id)));
    }
    for name in names {
        match backend.load(name, u64::MAX) {
            Ok(content) => {
                memory.create().unwrap();
                memory.save(name, &[&content]).unwrap();
            }
            Err(error) => assert!(
                name == FileName::CONFIG,
                "{name} can't be read: {}",
                chain(&error)
            ),
        }
    }
    memory
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct HttpCase {
    site: String,
    command: String,
    when: When,
    fault: HttpFault,
}

impl HttpCase {
    fn drawn(site: &str, command: &str, requests: u64, random: &mut Random) -> Self {
        let number = random.below(requests);
        let when = match random.below(100) {
            percent if percent < LASTING_PERCENT => When::From(number),
            percent if percent < LASTING_PERCENT + STORM_CASES_PERCENT => {
                When::Storm(random.below(1 << 32))
            }
            _ => When::Once(number),
        };
        Self {
            site: site.to_owned(),
            command: command.to_owned(),
            when,
            fault: *random.pick(&HttpFault::ALL),
        }
    }

    fn plan(&self) -> HttpPlan {
        match self.when {
            When::Once(number) => HttpPlan::at(number, self.fault),
            When::From(number) => HttpPlan::from(number, self.fault),
            When::Storm(seed) => {
                let faults = HttpFault::ALL.into_iter().filter(|fault| passes(*fault));
                HttpPlan::random(seed, STORM_PERCENT, &faults.collect::<Vec<_>>())
            }
        }
    }

    fn must_succeed(&self) -> bool {
        matches!(self.when, When::Once(_)) && passes(self.fault)
    }

    fn hides(&self) -> bool {
        self.fault == HttpFault::StaleListing && !matches!(self.when, When::Storm(_))
    }
}

/// Whether another try of the same request goes well.
fn passes(fault: HttpFault) -> bool {
    !matches!(
        fault,
        HttpFault::Shorten
            | HttpFault::Lengthen
            | HttpFault::WrongRange
            | HttpFault::FlipBit
            | HttpFault::StaleListing
            | HttpFault::RefuseClock
    )
}

impl fmt::Display for HttpCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            site,
            command,
            when,
            fault,
        } = self;
        match when {
            When::Once(number) => write!(f, "{site}/{command}:{number}:{fault}"),
            When::From(number) => write!(f, "{site}/{command}:{number}+:{fault}"),
            When::Storm(seed) => write!(f, "{site}/{command}:{seed}~:{fault}"),
        }
    }
}

impl FromStr for HttpCase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no SITE/COMMAND:NUMBER:FAULT");
        let (site, rest) = text.split_once('/').ok_or_else(wrong)?;
        let [command, number, fault] = rest.split(':').collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        let digits = number.trim_end_matches(['+', '~']);
        let count = digits.parse().map_err(|_| wrong())?;
        let known = HttpFault::ALL
            .into_iter()
            .find(|known| known.to_string() == fault);
        let when = match &number[digits.len()..] {
            "+" => When::From(count),
            "~" => When::Storm(count),
            _ => When::Once(count),
        };
        Ok(Self {
            site: site.to_owned(),
            command: command.to_owned(),
            when,
            fault: known.ok_or_else(wrong)?,
        })
    }
}

/// Runs a case; false if nothing went wrong in it.
fn run(site: &Site, matrix: &Matrix<'_>, case: &HttpCase, number: u64) -> bool {
    let _note = Note::new(format!(
        "{CASE_VARIABLE}={case} repeats it, number {number}"
    ));
    let _watch = Watch::new(case);
    let place = format!("{}-{number}", matrix.command.name);
    let direct = site.direct(&place);
    fill(&direct, &matrix.base);
    site.proxy.follow(case.plan());
    let try_for = match case.when {
        When::From(_) => LASTING_FOR,
        When::Once(_) | When::Storm(_) => PASSING_FOR,
    };
    let backend = retrying(site.through(&place), try_for);
    let done = (matrix.command.run)(matrix.world, &backend);
    drop(backend);
    let injected = site.proxy.injected();
    if injected.is_empty() {
        return false;
    }
    let _injected = Note::new(format!("went wrong: {injected:?}\ncame out: {done:?}"));
    matrix.judge(&done, case.must_succeed(), case.hides());
    let left = drain(&direct);
    matrix.assert_left(&left, done.is_ok() && !case.hides(), number);
    true
}

/// Runs the commands over one protocol: by a seed, or the case that the environment names.
fn meets_faults(site: &Site) {
    let world = World::new();
    let named: Option<String> = std::env::var(CASE_VARIABLE).ok();
    let named: Option<HttpCase> = named.and_then(|text| text.parse().ok());
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let mut all = 0;
    for name in OVER_HTTP {
        let command = COMMANDS.iter().find(|command| command.name == name);
        let matrix = Matrix::new(&world, command.unwrap());
        if std::env::var_os(CASE_VARIABLE).is_some() {
            let of_this = |case: &&HttpCase| case.site == site.name && case.command == name;
            if let Some(case) = named.as_ref().filter(of_this) {
                let hits = (0..20).filter(|number| run(site, &matrix, case, *number));
                assert!(hits.count() > 0, "{case} did not happen");
            }
            continue;
        }
        // How many requests there are, and what the listings were before.
        let direct = site.direct(name);
        fill(&direct, &matrix.base);
        site.proxy.follow(HttpPlan::none());
        let backend = retrying(site.through(name), PASSING_FOR);
        let done = (command.unwrap().run)(&world, &backend);
        assert_eq!(done.as_deref(), Ok(matrix.expected.as_str()), "over HTTP");
        let requests = site.proxy.exchanges().len() as u64;
        let wanted = if soak() { HTTP_CASES * 20 } else { HTTP_CASES };
        let (mut injected, mut number) = (0, 0);
        for case in KNOWN.map(|text| text.parse::<HttpCase>().unwrap()) {
            if case.site == site.name && case.command == name {
                assert!(run(site, &matrix, &case, number), "{case} did not happen");
                (injected, number) = (injected + 1, number + 1);
            }
        }
        while injected < wanted {
            let case = HttpCase::drawn(site.name, name, requests, &mut random);
            injected += usize::from(run(site, &matrix, &case, number));
            number += 1;
            assert!(number < 40 * wanted as u64, "faults do not fit {name}");
        }
        all += injected;
    }
    println!("{}: {all} cases went wrong by plan, seed {seed}", site.name);
}

#[test]
fn over_s3() {
    meets_faults(&Site::s3());
}

#[test]
fn over_rest() {
    meets_faults(&Site::rest());
}
