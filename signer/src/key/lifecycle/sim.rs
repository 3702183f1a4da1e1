//! Lines driven through a simulated world: servers that lag, fail and lose answers, resolvers that
//! cache, a second writer, operators, crashes between any two steps, and clocks that jump.
//!
//! What is checked is what receivers see: no server or cache may have had anything but the key at
//! its name from the first signature with it until the last one has been verified.

use std::collections::BTreeMap;

use super::*;

/// Of records, and of their absence, in seconds.
const TTL_S: u64 = 20;
const NEGATIVE_TTL_S: u64 = 35;
/// How long a signature may be under way, in seconds.
const VALIDITY_S: u64 = 300;
const SEEDS: u64 = 10_000;
const STEPS: usize = 600;
const FOREIGN: &str = "v=DKIM1; k=rsa; p=Zm9yZWlnbg==";

fn plan(dice: &mut Dice) -> Plan {
    Plan {
        rotate_every_s: 900 + dice.below(900),
        jitter_permille: 100,
        standby_for_s: 5,
        drain_for_s: VALIDITY_S,
        emergency_drain_for_s: VALIDITY_S,
        resolvers_min: 1,
        look_every_s: 60,
        selector_prefix: "s".parse().expect("is a selector"),
        selectors: dice.one_in(2).then_some(5),
    }
}

/// splitmix64
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

type Value = Option<String>;

/// What one server had at each name, and since when.
#[derive(Default)]
struct Server {
    history: BTreeMap<Selector, Vec<(u64, Value)>>,
    /// A change on its way: due then.
    coming: Vec<(u64, Selector, Value)>,
    down_until_s: u64,
}

impl Server {
    fn now(&self, selector: &Selector) -> Value {
        self.history.get(selector).and_then(|all| all.last()).and_then(|(_, value)| value.clone())
    }

    fn set(&mut self, selector: &Selector, value: Value, now_s: u64) {
        self.history.entry(selector.clone()).or_default().push((now_s, value));
    }

    fn catch_up(&mut self, now_s: u64) {
        if self.down_until_s > now_s {
            return;
        }
        let (due, coming) =
            std::mem::take(&mut self.coming).into_iter().partition(|c| c.0 <= now_s);
        self.coming = coming;
        let due: Vec<(u64, Selector, Value)> = due;
        for (_, selector, value) in due {
            self.set(&selector, value, now_s);
        }
    }

    /// Whether somebody could see something else than `record` between two times.
    fn shows_other(&self, selector: &Selector, record: &str, from_s: u64, to_s: u64) -> bool {
        let empty = Vec::new();
        let changes = self.history.get(selector).unwrap_or(&empty);
        let mut spans = vec![(0, None)];
        spans.extend(changes.iter().map(|(since_s, value)| (*since_s, value.as_deref())));
        (0..spans.len()).any(|index| {
            let (since_s, value) = spans[index];
            let until_s = spans.get(index + 1).map_or(u64::MAX / 2, |next| next.0);
            let ttl_s = if value.is_some() { TTL_S } else { NEGATIVE_TTL_S };
            let is_visible = since_s < to_s && until_s + ttl_s > from_s && until_s > since_s;
            value != Some(record) && is_visible
        })
    }
}

/// A stretch of time in which shards signed with a key.
struct Signed {
    selector: Selector,
    record: String,
    from_s: u64,
    to_s: u64,
}

struct World {
    dice: Dice,
    plan: Plan,
    now_s: u64,
    clock_off_s: i64,
    servers: [Server; 2],
    cache: BTreeMap<Selector, (u64, Value)>,
    line: Line,
    disk: String,
    /// The key that shards sign with, since when, and the next one on its way to them.
    signing: Option<(Selector, u64)>,
    to_sign: Option<(u64, Selector)>,
    signed: Vec<Signed>,
    rotations: u64,
    is_calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let plan = plan(&mut dice);
        Self {
            dice,
            plan,
            now_s: 10_000,
            clock_off_s: 1_000_000,
            servers: Default::default(),
            cache: BTreeMap::new(),
            line: Line::default(),
            disk: serde_json::to_string(&Line::default()).expect("is plain"),
            signing: None,
            to_sign: None,
            signed: Vec::new(),
            rotations: 0,
            is_calm: false,
        }
    }

    fn wall_s(&self) -> u64 {
        self.now_s.saturating_add_signed(self.clock_off_s)
    }

    fn store(&mut self) {
        self.disk = serde_json::to_string(&self.line).expect("is plain");
        let active = self.line.keys().iter().filter(|key| key.stage == Stage::Active).count();
        assert!(active <= 1, "two keys are active");
        assert!(active == 1 || self.signed.is_empty(), "no key is active any more");
    }

    /// The process dies, and comes back some time later.
    fn crash(&mut self) {
        self.stop_signing();
        self.now_s += self.dice.below(90);
        self.line = serde_json::from_str(&self.disk).expect("was written by us");
        self.line.out_of_use(|_| false);
        self.to_sign = None;
        self.signing = self.line.active().map(|key| (key.selector.clone(), self.now_s));
    }

    fn stop_signing(&mut self) {
        let Some((selector, from_s)) = self.signing.take() else { return };
        let record = self.line.key(&selector).expect("a key that signs is kept").record.clone();
        self.signed.push(Signed { selector, record, from_s, to_s: self.now_s });
    }

    fn pass_time(&mut self) {
        let passed_s = 1 + self.dice.below(20);
        self.now_s += passed_s;
        if !self.is_calm && self.dice.one_in(60) {
            let far_s = i64::try_from(self.dice.below(20_000_000)).expect("fits");
            self.clock_off_s = far_s - 9_000_000;
        }
        let elapsed = Elapsed { real_ms: passed_s * 1_000, planned_ms: passed_s * 1_000 };
        self.line.pass(elapsed, self.wall_s());
        for server in &mut self.servers {
            server.catch_up(self.now_s);
            if !self.is_calm && self.dice.one_in(40) {
                server.down_until_s = self.now_s + self.dice.below(200);
            }
        }
        if let Some((_, selector)) = self.to_sign.take_if(|(at_s, _)| *at_s <= self.now_s) {
            self.stop_signing();
            self.signing = Some((selector, self.now_s));
        }
        let signing = self.signing.as_ref().map(|(selector, _)| selector.clone());
        self.line.out_of_use(|selector| signing.as_ref() == Some(selector));
        if self.dice.one_in(4) {
            self.store();
        }
    }

    fn look(&mut self, selector: &Selector) -> Looked {
        let expected = self.line.expected(selector).expect("is looked for").to_owned();
        let mut looked = Looked { expected: expected.clone(), ..Looked::default() };
        let mut ttl = |value: &Value| {
            let ttl_s = if value.is_some() { TTL_S } else { NEGATIVE_TTL_S };
            looked.ttl_s_max = looked.ttl_s_max.max(u32::try_from(ttl_s).expect("is small"));
        };
        looked.authoritative.1 = self.servers.len();
        for server in self.servers.iter().filter(|server| server.down_until_s <= self.now_s) {
            let value = server.now(selector);
            ttl(&value);
            match value.as_deref() == Some(&*expected) {
                true => looked.authoritative.0 += 1,
                false => looked.is_contradicted = true,
            }
        }
        let now_s = self.now_s;
        let kept = self.cache.get(selector).filter(|(until_s, _)| *until_s > now_s).cloned();
        let asked = &self.servers[usize::from(self.dice.one_in(2))];
        let value = kept.map(|(_, value)| value).or_else(|| {
            let value = (asked.down_until_s <= now_s).then(|| asked.now(selector))?;
            let ttl_s = if value.is_some() { TTL_S } else { NEGATIVE_TTL_S };
            self.cache.insert(selector.clone(), (now_s + ttl_s, value.clone()));
            Some(value)
        });
        let is_right = value.flatten().as_deref() == Some(&*expected);
        looked.resolvers = (usize::from(is_right), 1);
        looked
    }

    /// A dynamic update: the primary changes if what is there is known; the answer may be lost.
    fn update(&mut self, selector: &Selector, known: &[Value], value: &str) {
        let primary = &mut self.servers[0];
        if primary.down_until_s > self.now_s || !known.contains(&primary.now(selector)) {
            return;
        }
        primary.set(selector, Some(value.to_owned()), self.now_s);
        let at_s = self.now_s + 1 + self.dice.below(30);
        self.servers[1].coming.push((at_s, selector.clone(), Some(value.to_owned())));
    }

    /// `true` where the process dies at this point.
    fn dies(&mut self) -> bool {
        if self.is_calm || !self.dice.one_in(25) {
            return false;
        }
        self.crash();
        true
    }

    fn take(&mut self, step: &Step) {
        let wall_s = self.wall_s();
        match step {
            Step::Make(selector) => {
                let record = format!("v=DKIM1; k=rsa; p=key{}", self.dice.next());
                let spread = u16::try_from(self.dice.below(1_001)).expect("fits");
                let made = self.line.made(selector, record, spread, &self.plan, wall_s);
                made.expect("was asked for");
                if !self.dies() {
                    self.store();
                }
            }
            Step::Publish(selector) | Step::Withdraw(selector) => {
                let key = self.line.key(selector).expect("is known");
                let (record, is_reused) = (key.record.clone(), key.is_reused);
                let revoked = Some(revoked_text().to_owned());
                match step {
                    Step::Publish(_) if is_reused => {
                        self.update(selector, &[revoked], &record);
                    }
                    Step::Publish(_) => self.update(selector, &[None], &record),
                    _ => self.update(selector, &[Some(record)], revoked_text()),
                }
                if !self.dies() {
                    self.look_and_store(selector);
                }
            }
            Step::Look(selector) => self.look_and_store(selector),
            Step::Switch(_) => self.switch(Cause::Due),
            Step::Destroy(selector) => {
                for server in &self.servers {
                    assert_eq!(server.now(selector).as_deref(), Some(revoked_text()));
                }
                self.line.destroy(selector, wall_s).expect("is withdrawn");
                if !self.dies() {
                    self.store();
                }
            }
        }
    }

    fn look_and_store(&mut self, selector: &Selector) {
        let looked = self.look(selector);
        let wall_s = self.wall_s();
        // Whatever it is refused for, the next steps follow from the line.
        drop(self.line.looked(selector, &looked, &self.plan, wall_s));
        if !self.dies() {
            self.store();
        }
    }

    fn switch(&mut self, cause: Cause) {
        let mut line = self.line.clone();
        let Ok(selector) = line.switch(cause, &self.plan, self.wall_s()) else { return };
        if self.dies() {
            return;
        }
        self.line = line;
        self.store();
        if self.dies() {
            return;
        }
        self.rotations += 1;
        self.to_sign = Some((self.now_s + self.dice.below(5), selector));
    }

    /// Operators, and a second writer who takes names before they are published.
    fn meddle(&mut self) {
        let wall_s = self.wall_s();
        if self.dice.one_in(120) {
            self.line.order_rotation();
        }
        if self.dice.one_in(120) {
            self.switch(Cause::Emergency(None));
        }
        let Some(candidate) = self.line.candidate() else { return };
        let (selector, is_generated) =
            (candidate.selector.clone(), matches!(candidate.stage, Stage::Generated { .. }));
        let is_foreign = self.servers[0].now(&selector).as_deref() == Some(FOREIGN);
        let is_free = self.servers[0].now(&selector).is_none();
        if is_generated && is_free && self.dice.one_in(30) {
            self.update(&selector, &[None], FOREIGN);
        } else if (is_foreign && self.dice.one_in(10)) || self.dice.one_in(300) {
            self.line.abandon(&selector, wall_s).expect("has not signed");
            self.store();
        }
    }

    fn run(&mut self) {
        for step in 0..STEPS {
            self.is_calm = step > STEPS * 3 / 4;
            self.pass_time();
            if !self.is_calm {
                self.meddle();
            }
            for step in self.line.steps(&self.plan, self.wall_s()) {
                let is_still = self.line.steps(&self.plan, self.wall_s()).contains(&step);
                if is_still && !self.dice.one_in(3) {
                    self.take(&step);
                }
            }
            if !self.is_calm && self.dice.one_in(50) {
                self.crash();
            }
        }
        self.stop_signing();
    }

    fn check(&self, seed: u64) {
        for signed in &self.signed {
            for (index, server) in self.servers.iter().enumerate() {
                let to_s = signed.to_s + VALIDITY_S;
                let shows_other =
                    server.shows_other(&signed.selector, &signed.record, signed.from_s, to_s);
                assert!(
                    !shows_other || signed.from_s == signed.to_s,
                    "seed {seed}: {} signed from {} to {}, and server {index} had {:?}",
                    signed.selector,
                    signed.from_s,
                    signed.to_s,
                    server.history.get(&signed.selector)
                );
            }
        }
    }
}

#[test]
fn whatever_happens_every_signature_can_be_verified() {
    let mut rotations = 0;
    let mut with_standby = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.run();
        world.check(seed);
        rotations += world.rotations;
        with_standby += u64::from(world.line.standby().is_some());
        assert!(world.line.active().is_some(), "seed {seed}: {:#?}", world.line);
    }
    // A good part of them changed keys, and had the next one ready in the end.
    assert!(rotations > SEEDS * 2, "{rotations}");
    assert!(with_standby > SEEDS / 2, "{with_standby}");
}
