//! The same over real protocols: commands over S3 and REST, with a proxy between that fails by plan.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use lifeboat_repo::backend::{BackendOptions, LocalBackend, Location, open as connect};
use lifeboat_testkit::proxy::{Exchange, HttpFault, HttpPlan, HttpProxy};
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::s3::LocalS3;

use super::*;

/// Cases of one command over one protocol in which something goes wrong, in a normal run: of all kinds of fault these are a
/// part, another one by each seed.
const HTTP_CASES: usize = 5;
/// In a run of everything each kind is met so often.
const ROUNDS_OF_ALL: usize = 28;
/// Requests that a fault tries to hit before the next kind has its turn: it fits few, or threads ask in another order.
const TRIES: usize = 8;
/// The commands over one protocol are tested in so many lanes, side by side: they wait more than they work.
const LANES: usize = 2;
/// Without a byte for so long a request is stuck: short, because faults let it wait for nothing.
const STALL: Duration = Duration::from_millis(400);
/// For how long a command tries again what fails for ever.
const LASTING_FOR: Duration = Duration::from_millis(500);
/// Of the cases, so many in a hundred last.
const LASTING_PERCENT: u64 = 10;
/// Of the cases, so many in a hundred are storms.
const STORM_CASES_PERCENT: u64 = 15;
/// How many requests of a storm go wrong, in a hundred.
const STORM_PERCENT: u64 = 10;

/// Cases that once went wrong: they are tried each time.
const KNOWN: [&str; 3] = [
    "s3/init:1:ResetAfterHead",
    "rest/init:13:ResetInBody",
    "s3/migrate:3+:Lengthen",
];

/// A server, and the way to it that fails.
struct Site {
    name: &'static str,
    proxy: HttpProxy,
    /// The beginning of a location, past the proxy and through it.
    direct: String,
    through: String,
    options: BackendOptions,
    /// Where the server keeps repositories, if it refuses to be given what does not have the hash of its name.
    folder: Option<PathBuf>,
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
            folder: None,
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
            folder: Some(server.directory("")),
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

    /// Puts files into a repository that does not exist yet; none if there are none.
    fn fill(&self, place: &str, from: &MemoryBackend) -> Arc<dyn Backend> {
        let direct = self.direct(place);
        let files = from.files();
        if !files.is_empty() {
            direct.create().unwrap();
        }
        for (name, content) in files {
            let is_damaged = name.kind == FileKind::Pack && Id::of(&content) != name.id;
            let beside = self.folder.as_ref().filter(|_| is_damaged);
            let saved = match beside {
                Some(folder) => LocalBackend::new(folder.join(place)).save(name, &[&content]),
                None => direct.save(name, &[&content]),
            };
            saved.unwrap();
        }
        direct
    }

    fn connect(&self, begin: &str, place: &str, options: &BackendOptions) -> Arc<dyn Backend> {
        let location: Location = format!("{begin}{place}").parse().unwrap();
        connect(&location, options).unwrap()
    }
}

fn address(endpoint: &str) -> SocketAddr {
    endpoint.trim_start_matches("http://").parse().unwrap()
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
    /// A case of a fault that a request seems to fit.
    fn drawn(
        site: &str,
        command: &str,
        fault: HttpFault,
        requests: &[Exchange],
        random: &mut Random,
    ) -> Self {
        let fitting = requests.iter().filter(|request| fits(fault, request));
        let fitting: Vec<u64> = fitting.map(|request| request.number).collect();
        let number = match fitting.len() {
            0 => random.below(requests.len() as u64),
            _ => *random.pick(&fitting),
        };
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
            fault,
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
}

/// Whether a request can go wrong in this way, as far as can be told before.
fn fits(fault: HttpFault, request: &Exchange) -> bool {
    match fault {
        HttpFault::StaleListing => request.is_listing(),
        HttpFault::WrongRange | HttpFault::FlipBit => request.method == "GET",
        HttpFault::Shorten | HttpFault::Lengthen => matches!(&*request.method, "GET" | "HEAD"),
        HttpFault::ResetInBody => matches!(&*request.method, "PUT" | "POST"),
        _ => true,
    }
}

/// Whether a listing told what is not so: what once was, or garbled names and sizes, which no checksum covers.
fn hides(injected: &[(Exchange, HttpFault)]) -> bool {
    injected.iter().any(|(request, fault)| {
        let lies = matches!(fault, HttpFault::StaleListing | HttpFault::FlipBit);
        lies && request.is_listing()
    })
}

/// What no client can help, each as narrow as it can be.
enum Helpless {
    /// The REST server keeps the half of a config that reached it, and nobody can reach it any more to remove that. The
    /// next run replaces it.
    HalfConfig,
    /// A prune looks twice; where both listings hide a snapshot, in a garbled name without a checksum, it was never there.
    HiddenSnapshot,
    /// What is garbled in each of several readings is damaged, as far as anybody can tell, and given up.
    GarbledPack,
}

fn helpless(
    case: &HttpCase,
    done: &Done,
    injected: &[(Exchange, HttpFault)],
    left: &MemoryBackend,
) -> Option<Helpless> {
    if !matches!(case.when, When::From(_)) {
        return None;
    }
    match (&*case.command, case.fault) {
        ("init", HttpFault::ResetInBody) if case.site == "rest" && done.is_err() => {
            let opened = Repository::open(Arc::new(left.clone()), PASSWORD, None);
            matches!(opened, Err(RepoError::Damaged { name, .. }) if name == FileName::CONFIG)
                .then_some(Helpless::HalfConfig)
        }
        ("prune" | "prune-at-once", HttpFault::FlipBit) if done.is_ok() => {
            let hiding = |(request, _): &&(Exchange, HttpFault)| {
                request.is_listing() && request.target.contains("snapshots")
            };
            (injected.iter().filter(hiding).count() >= 2).then_some(Helpless::HiddenSnapshot)
        }
        (
            "repair-snapshots",
            HttpFault::FlipBit | HttpFault::Shorten | HttpFault::Lengthen | HttpFault::WrongRange,
        ) => {
            let of_pack = |(request, _): &&(Exchange, HttpFault)| {
                !request.is_listing() && request.target.contains("/data/")
            };
            (injected.iter().filter(of_pack).count() >= 4).then_some(Helpless::GarbledPack)
        }
        _ => None,
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
        if !["s3", "rest"].contains(&site) {
            return Err(wrong());
        }
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
            command: case::known(command)?,
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
    let direct = site.fill(&place, &matrix.base);
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
    let hides = hides(&injected);
    matrix.judge(&done, case.must_succeed(), hides);
    let mut left = drain(&direct);
    match helpless(case, &done, &injected, &left) {
        None => matrix.assert_left(&left, done.is_ok() && !hides, number),
        Some(Helpless::HalfConfig) => {
            let again = (matrix.command.run)(matrix.world, &direct);
            assert_eq!(again.as_deref(), Ok(matrix.expected.as_str()), "once more");
            left = drain(&direct);
            matrix.assert_left(&left, true, number);
        }
        Some(Helpless::HiddenSnapshot) => {
            let files = matrix.base.files();
            let mut snapshots = files
                .iter()
                .filter(|(name, _)| name.kind == FileKind::Snapshot);
            assert!(snapshots.all(|(name, _)| left.size(*name).is_ok()));
        }
        Some(Helpless::GarbledPack) => matrix.assert_readable(&left),
    }
    true
}

/// Runs the commands of one lane over one protocol: by a seed, or the case that the environment names.
fn meets_faults(site: &Site, lane: usize) {
    let world = World::new();
    // One without a slash goes over no protocol.
    let named = std::env::var(CASE_VARIABLE)
        .ok()
        .filter(|text| text.contains('/'))
        .map(|text| text.parse::<HttpCase>().expect(CASE_VARIABLE));
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let (mut all, mut kinds) = (0, BTreeSet::new());
    for command in COMMANDS.iter().skip(lane).step_by(LANES) {
        let matrix = Matrix::new(&world, command);
        if std::env::var_os(CASE_VARIABLE).is_some() {
            let of_this = |case: &&HttpCase| case.site == site.name && case.command == command.name;
            if let Some(case) = named.as_ref().filter(of_this) {
                let hits = (0..20).filter(|number| run(site, &matrix, case, *number));
                assert!(hits.count() > 0, "{case} did not happen");
            }
            continue;
        }
        all += meets_all(site, &matrix, &mut random, &mut kinds);
    }
    let kinds = kinds.len();
    println!(
        "{}: {all} cases of {kinds} kinds went wrong by plan, seed {seed}",
        site.name
    );
}

/// Runs one command: the cases that once went wrong, then the kinds of fault by turns. Gives how many cases went wrong.
fn meets_all(
    site: &Site,
    matrix: &Matrix<'_>,
    random: &mut Random,
    kinds: &mut BTreeSet<HttpFault>,
) -> usize {
    let name = matrix.command.name;
    // Which requests there are, and what the listings were before.
    // Not by the name alone: some have that of a folder of repositories.
    let place = format!("{name}-0");
    site.fill(&place, &matrix.base);
    site.proxy.follow(HttpPlan::none());
    let backend = retrying(site.through(&place), PASSING_FOR);
    let done = (matrix.command.run)(matrix.world, &backend);
    assert_eq!(done.as_deref(), Ok(matrix.expected.as_str()), "over HTTP");
    let requests = site.proxy.exchanges();
    let (mut injected, mut number) = (0, 1);
    for case in KNOWN.map(|text| text.parse::<HttpCase>().unwrap()) {
        if case.site == site.name && case.command == name {
            assert!(run(site, matrix, &case, number), "{case} did not happen");
            (injected, number) = (injected + 1, number + 1);
        }
    }
    let mut deck = HttpFault::ALL.to_vec();
    for left in (1..deck.len()).rev() {
        deck.swap(left, random.index(left + 1));
    }
    let turns = match soak() {
        true => deck.len() * ROUNDS_OF_ALL,
        false => deck.len(),
    };
    for fault in deck.into_iter().cycle().take(turns) {
        if !soak() && injected >= HTTP_CASES {
            break;
        }
        for _ in 0..TRIES {
            let case = HttpCase::drawn(site.name, name, fault, &requests, random);
            number += 1;
            if run(site, matrix, &case, number) {
                kinds.insert(fault);
                injected += 1;
                break;
            }
        }
    }
    assert!(injected >= HTTP_CASES, "faults do not fit {name}");
    injected
}

/// A test for each lane of a protocol.
macro_rules! each_lane {
    ($($test:ident $site:ident $lane:literal)*) => {
        $(#[test]
        fn $test() {
            meets_faults(&Site::$site(), $lane);
        })*

        #[test]
        fn every_lane_has_its_test() {
            for site in ["s3", "rest"] {
                let lanes = [$((stringify!($site), $lane)),*];
                let lanes = lanes.into_iter().filter(|(of, _)| *of == site);
                assert!(lanes.map(|(_, lane)| lane).eq(0..LANES));
            }
        }
    };
}

each_lane! {
    over_s3 s3 0
    over_s3_too s3 1
    over_rest rest 0
    over_rest_too rest 1
}
