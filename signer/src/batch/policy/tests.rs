//! The rules one by one, then everything together in simulated time.

#![allow(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for whoever reads a test's output, far below any limit"
)]

use super::*;

const PASS_US: u64 = 510;

fn policy(lanes: usize) -> BatchPolicy<u64> {
    BatchPolicy::new(PolicyOptions::new(lanes))
}

fn jobs<T: Copy>(picked: &[Picked<T>]) -> Vec<T> {
    picked.iter().map(|picked| picked.job).collect()
}

#[test]
fn what_waits_is_taken_when_the_signer_is_free_and_urgent_goes_first() {
    let mut policy = policy(4);
    let mut picked = Vec::new();
    assert_eq!(policy.next(0, &mut picked), Next::Idle);
    let arrivals =
        [Class::Bulk, Class::Normal, Class::Bulk, Class::Urgent, Class::Normal, Class::Urgent];
    for (job, class) in (0..).zip(arrivals) {
        policy.arrive(job, class, job).expect("there is room");
    }
    assert_eq!(policy.next(10, &mut picked), Next::Start);
    assert_eq!(jobs(&picked), [3, 5, 1, 4]);
    assert_eq!(picked[0].waited_us, 7);
    assert_eq!(policy.next(11, &mut picked), Next::Idle, "it is busy");
    policy.finished(PASS_US);
    picked.clear();
    assert_eq!(policy.next(PASS_US, &mut picked), Next::Start);
    assert_eq!(jobs(&picked), [0, 2]);
    assert!(policy.is_empty());
}

#[test]
fn a_class_that_is_full_pushes_back_and_leaves_the_others_their_room() {
    let options = PolicyOptions { waiting_max: 2, ..PolicyOptions::new(4) };
    let mut policy = BatchPolicy::new(options);
    for job in 0..2 {
        policy.arrive(0, Class::Bulk, job).expect("there is room");
    }
    assert_eq!(policy.arrive(0, Class::Bulk, 2), Err(Full(2)));
    assert_eq!(policy.arrive(0, Class::Urgent, 3), Ok(()));
    assert_eq!(policy.len(), 3);
}

/// A signer that was busy until `until_us`, all the time.
fn under_load(lanes: usize, until_us: u64) -> BatchPolicy<u64> {
    let mut policy = policy(lanes);
    policy.arrive(0, Class::Normal, 0).expect("there is room");
    assert_eq!(policy.next(0, &mut Vec::new()), Next::Start);
    policy.finished(until_us);
    policy
}

#[test]
fn bulk_waits_for_company_only_under_load_and_only_so_long() {
    let mut idle = policy(4);
    idle.arrive(0, Class::Bulk, 1).expect("there is room");
    assert_eq!(idle.next(0, &mut Vec::new()), Next::Start, "nothing is saved on an idle signer");

    let mut loaded = under_load(4, 50_000);
    assert!(loaded.busy_percent() > 90.0);
    loaded.arrive(50_000, Class::Bulk, 1).expect("there is room");
    assert_eq!(loaded.next(50_000, &mut Vec::new()), Next::WaitUntil(51_000));
    assert_eq!(loaded.next(50_999, &mut Vec::new()), Next::WaitUntil(51_000));
    assert_eq!(loaded.next(51_000, &mut Vec::new()), Next::Start);
    loaded.finished(51_510);

    // Company ends the wait: a full pass, or anything that does not wait.
    for job in 0..4 {
        loaded.arrive(51_600, Class::Bulk, job).expect("there is room");
    }
    assert_eq!(loaded.next(51_600, &mut Vec::new()), Next::Start);
    loaded.finished(52_110);
    loaded.arrive(52_200, Class::Bulk, 8).expect("there is room");
    loaded.arrive(52_200, Class::Urgent, 9).expect("there is room");
    let mut picked = Vec::new();
    assert_eq!(loaded.next(52_200, &mut picked), Next::Start);
    assert_eq!(jobs(&picked), [9, 8], "bulk fills the lanes that urgent leaves");
}

#[test]
fn one_lane_is_always_full() {
    let mut policy = under_load(1, 50_000);
    policy.arrive(50_000, Class::Bulk, 1).expect("there is room");
    assert_eq!(policy.next(50_000, &mut Vec::new()), Next::Start);
}

#[test]
fn load_fades() {
    let mut policy = under_load(4, 20_000);
    assert!((policy.busy_percent() - 63.2).abs() < 0.1, "{}", policy.busy_percent());
    policy.next(40_000, &mut Vec::new());
    assert!((policy.busy_percent() - 23.3).abs() < 0.1, "{}", policy.busy_percent());
    policy.next(30_000, &mut Vec::new());
    assert!((policy.busy_percent() - 23.3).abs() < 0.1, "time stands still, never runs back");
}

#[test]
fn aged_jobs_have_a_quarter_of_the_lanes() {
    for (lanes, passes, aged) in [(1, 40, 10), (2, 40, 20), (4, 40, 40), (8, 40, 80), (6, 40, 60)] {
        let mut policy = policy(lanes);
        for job in 0..200 {
            policy.arrive(0, Class::Bulk, job).expect("there is room");
        }
        let mut now_us = AGED_US;
        let (mut bulk, mut urgent) = (0, 0);
        for _ in 0..passes {
            for job in 0..lanes as u64 {
                drop(policy.arrive(now_us, Class::Urgent, job));
            }
            let mut picked = Vec::new();
            assert_eq!(policy.next(now_us, &mut picked), Next::Start);
            assert_eq!(picked.len(), lanes);
            let first_bulk = picked.iter().position(|picked| picked.class == Class::Bulk);
            let order = picked.iter().map(|picked| picked.class);
            assert!(order.is_sorted(), "urgent stands in the first lanes");
            bulk += first_bulk.map_or(0, |at| picked.len() - at);
            urgent += first_bulk.unwrap_or(picked.len());
            now_us += PASS_US;
            policy.finished(now_us);
        }
        assert_eq!((bulk, urgent), (aged, passes * lanes - aged), "{lanes} lanes");
    }
}

/// Random numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// One load in simulated time.
#[derive(Clone, Copy)]
struct Load {
    lanes: usize,
    /// Arrivals as a share of what the signer can do.
    offered: f64,
    /// Shares of urgent and normal among them; the rest is bulk.
    mix: [f64; 2],
    max_wait_us: u64,
}

/// What came of it.
struct Found {
    /// From arrival to signature, sorted, by class, in microseconds.
    latency_us: [Vec<u64>; 3],
    refused: [u64; 3],
    signed: u64,
    passes: u64,
    busy_us: u64,
    until_us: u64,
    lanes: usize,
}

impl Found {
    fn percentile(&self, class: Class, percent: usize) -> u64 {
        let sorted = &self.latency_us[class.index()];
        if sorted.is_empty() { 0 } else { sorted[(sorted.len() - 1) * percent / 100] }
    }

    fn max(&self, class: Class) -> u64 {
        self.latency_us[class.index()].last().copied().unwrap_or(0)
    }

    fn fill(&self) -> f64 {
        self.signed as f64 / self.passes as f64
    }

    /// Signatures as a share of what the signer can do.
    fn throughput(&self) -> f64 {
        let capacity = self.until_us as f64 / PASS_US as f64 * self.lanes as f64;
        self.signed as f64 / capacity
    }

    fn cpu_us_each(&self) -> f64 {
        self.busy_us as f64 / self.signed as f64
    }
}

/// Poisson arrivals for 10 simulated seconds.
fn simulate(load: Load) -> Found {
    let options = PolicyOptions { max_wait_us: load.max_wait_us, ..PolicyOptions::new(load.lanes) };
    let mut policy = BatchPolicy::new(options);
    let mut random = Random(7);
    let mean_us = PASS_US as f64 / load.lanes as f64 / load.offered;
    let mut found = Found {
        latency_us: Default::default(),
        refused: [0; 3],
        signed: 0,
        passes: 0,
        busy_us: 0,
        until_us: 0,
        lanes: load.lanes,
    };
    let mut arrival = 0.0;
    let (mut running, mut picked) = (Vec::new(), Vec::new());
    let mut ends_us = None;
    let mut look_us = None;
    loop {
        let arrives_us = arrival as u64;
        let now_us = [Some(arrives_us), ends_us, look_us].into_iter().flatten().min().unwrap_or(0);
        if now_us > SIMULATED_US {
            found.until_us = SIMULATED_US;
            break;
        }
        if ends_us == Some(now_us) {
            policy.finished(now_us);
            ends_us = None;
            for Picked { class, job, .. } in running.drain(..) {
                found.signed += 1;
                found.latency_us[class.index()].push(now_us - job);
            }
        } else if arrives_us == now_us {
            let share = random.share();
            let class = match share {
                _ if share <= load.mix[0] => Class::Urgent,
                _ if share <= load.mix[0] + load.mix[1] => Class::Normal,
                _ => Class::Bulk,
            };
            if policy.arrive(now_us, class, now_us).is_err() {
                found.refused[class.index()] += 1;
            }
            arrival += -random.share().ln() * mean_us;
        }
        look_us = None;
        match policy.next(now_us, &mut picked) {
            Next::Start => {
                found.passes += 1;
                found.busy_us += PASS_US;
                ends_us = Some(now_us + PASS_US);
                std::mem::swap(&mut running, &mut picked);
            }
            Next::WaitUntil(until_us) => {
                assert!(until_us > now_us, "a wait that has no end");
                look_us = Some(until_us);
            }
            Next::Idle => {}
        }
    }
    found.latency_us.iter_mut().for_each(|latency| latency.sort_unstable());
    found
}

const SIMULATED_US: u64 = 10_000_000;

#[test]
fn percentiles_at_every_load() {
    println!(
        "lanes load  mix      | p50/p99 us: urgent      normal        bulk        | fill  done"
    );
    for lanes in [1, 4] {
        for mix in [[0.1, 0.3], [0.5, 0.3], [0.0, 0.0]] {
            for offered in [0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1] {
                let found = simulate(Load { lanes, offered, mix, max_wait_us: MAX_WAIT_US });
                let at = |class| (found.percentile(class, 50), found.percentile(class, 99));
                let [urgent, normal, bulk] = Class::ALL.map(at);
                println!(
                    "{lanes:5} {offered:4.2} {mix:?} | {urgent:?} {normal:?} {bulk:?} | {:4.2} {:4.2}",
                    found.fill(),
                    found.throughput()
                );
                check(offered, mix, lanes, &found);
            }
        }
    }
}

fn check(offered: f64, mix: [f64; 2], lanes: usize, found: &Found) {
    let urgent_p99_us = found.percentile(Class::Urgent, 99);
    // Two passes and its own; one lane has no lane to leave to the aged, and queues by itself.
    if lanes > 1 && mix[0] <= 0.1 {
        assert!(urgent_p99_us <= 3 * PASS_US, "{urgent_p99_us} us at {offered}");
        assert!(found.max(Class::Urgent) <= 4 * PASS_US, "{} us", found.max(Class::Urgent));
    }
    if offered >= 1.1 {
        assert!(found.throughput() >= 0.98, "{} at saturation", found.throughput());
        assert!(found.fill() >= 0.98 * lanes as f64, "{}", found.fill());
    } else if offered <= 0.9 {
        assert_eq!(found.refused, [0; 3], "at {offered}");
        assert!((found.throughput() / offered - 1.0).abs() < 0.03, "{}", found.throughput());
    }
    if offered <= 0.05 && lanes > 1 {
        // Hardly anything meets a pass under way; what does waits for its end.
        let bulk_p99_us = found.percentile(Class::Bulk, 99);
        assert!(bulk_p99_us <= 2 * PASS_US + MAX_WAIT_US, "{bulk_p99_us}");
    }
}

/// Urgent alone is more than the signer can do; the others still get what is theirs.
#[test]
fn nothing_starves_when_urgent_alone_is_too_much() {
    for lanes in [1, 4] {
        let load = Load { lanes, offered: 1.6, mix: [0.75, 0.125], max_wait_us: MAX_WAIT_US };
        let found = simulate(load);
        let [urgent, normal, bulk] = Class::ALL.map(|class| found.latency_us[class.index()].len());
        println!(
            "{lanes} lanes: signed urgent {urgent}, normal {normal}, bulk {bulk}; longest {} us",
            found.max(Class::Bulk)
        );
        let share = (normal + bulk) as f64 / found.signed as f64;
        assert!((0.24..=0.26).contains(&share), "a quarter is theirs: {share}");
        // The bound of the module's text, with everything older that can wait.
        let ahead = 2 * WAITING_MAX as u64;
        let bound_us = AGED_US + (4 * ahead / lanes as u64 + 3) * PASS_US;
        for class in [Class::Normal, Class::Bulk] {
            assert!(found.max(class) <= bound_us, "{} of {bound_us}", found.max(class));
        }
        assert!(found.refused[Class::Urgent.index()] > 0, "it is pushed back");
    }
}

#[test]
fn waiting_saves_bulk_a_part_of_its_cpu_at_middling_loads() {
    for offered in [0.15, 0.2, 0.3, 0.4, 0.5] {
        let load = |max_wait_us| Load { lanes: 4, offered, mix: [0.0, 0.0], max_wait_us };
        let (patient, hasty) = (simulate(load(MAX_WAIT_US)), simulate(load(0)));
        let saved = 1.0 - patient.cpu_us_each() / hasty.cpu_us_each();
        println!(
            "bulk at {offered}: {:.0} us each instead of {:.0}, p99 {} us instead of {}",
            patient.cpu_us_each(),
            hasty.cpu_us_each(),
            patient.percentile(Class::Bulk, 99),
            hasty.percentile(Class::Bulk, 99)
        );
        if (0.2..=0.4).contains(&offered) {
            assert!(saved >= 0.15, "saved {saved} at {offered}");
        }
        let most_us = MAX_WAIT_US + 3 * PASS_US;
        assert!(patient.percentile(Class::Bulk, 99) <= most_us, "at {offered}");
    }
}
