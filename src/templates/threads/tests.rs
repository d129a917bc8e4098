//! Threads that come back, that do not, and whose they are.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
use std::num::NonZeroU8;

use super::*;
use crate::domain::ids::TenantId;
use crate::domain::quantity::HumanDuration;

/// A render is given up after half a second and three times nothing.
const SOON: Duration = Duration::from_millis(1);

/// One thread.
fn threads(lost_max: u8, render_timeout: Duration) -> Threads {
    Threads::new(&TemplateSettings {
        threads: NonZeroU8::MIN,
        lost_threads_max: NonZeroU8::new(lost_max).unwrap(),
        render_timeout: HumanDuration(render_timeout),
        wait_max: HumanDuration(Duration::from_secs(20)),
        ..TemplateSettings::default()
    })
}

/// Work that does not come back until it is let go.
fn stuck() -> (mpsc::Sender<()>, impl FnOnce() + Send) {
    let (let_go, wait) = mpsc::channel();
    (let_go, move || _ = wait.recv())
}

fn wait_until_none_is_lost(threads: &Threads) {
    while threads.lost() > 0 {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_panic_is_the_works_own_and_its_thread_goes_on() {
    // Noting where it panicked takes a while.
    let threads = threads(1, Duration::from_secs(20));
    let failed = threads.run(None, || -> u8 { panic!("on purpose") }).await;
    assert_eq!((failed, threads.run(None, || 7).await, threads.lost()), (Err(Lost::Panicked), Ok(7), 0));
}

#[tokio::test]
async fn a_thread_that_does_not_come_back_is_given_up_and_another_takes_its_place() {
    let threads = threads(2, SOON);
    let (let_go, work) = stuck();
    assert_eq!(threads.run(None, work).await, Err(Lost::GivenUp));
    assert_eq!((threads.run(None, || 7).await, threads.lost()), (Ok(7), 1));
    drop(let_go);
    wait_until_none_is_lost(&threads);
    assert_eq!(threads.run(None, || 8).await, Ok(8));
}

#[tokio::test]
async fn when_too_many_are_lost_the_next_fails_at_once_until_one_comes_back() {
    let threads = threads(1, SOON);
    let (let_go, work) = stuck();
    let waiting = threads.run(None, || 6);
    let (first, second) = tokio::join!(threads.run(None, work), waiting);
    assert_eq!((first, second), (Err(Lost::GivenUp), Err(Lost::Stuck)));
    assert_eq!(threads.run(None, || 7).await, Err(Lost::Stuck));
    assert_eq!(threads.run_blocking(None, || 7), Err(Lost::Stuck));
    drop(let_go);
    wait_until_none_is_lost(&threads);
    assert_eq!(threads.run(None, || 8).await, Ok(8));
}

/// Three threads, of which one tenant has two.
fn three(settings: TemplateSettings) -> Threads {
    let threads = NonZeroU8::MIN.saturating_add(2);
    Threads::new(&TemplateSettings { threads, render_timeout: HumanDuration::from_secs(20), ..settings })
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

#[tokio::test]
async fn however_many_one_tenant_has_that_are_slow_the_next_tenants_are_done() {
    let threads = three(TemplateSettings::default());
    let (let_go, waiting): (Vec<_>, Vec<_>) = (0..100).map(|_| stuck()).unzip();
    let slow = waiting.into_iter().map(|work| threads.run(Some(tenant("slow")), work));
    let slow = futures_util::future::join_all(slow);
    let quick = async {
        let done = threads.run(Some(tenant("quick")), || 7).await;
        drop(let_go);
        done
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!((quick, slow.into_iter().flatten().count()), (Ok(7), 100));
}

#[tokio::test]
async fn who_waits_longer_than_they_may_is_told_then_and_not_later() {
    let wait_max = HumanDuration(Duration::from_millis(600));
    let threads = three(TemplateSettings { wait_max, ..TemplateSettings::default() });
    let ((one, first), (two, second)) = (stuck(), stuck());
    let begun = Instant::now();
    let late = async {
        let late = threads.run(Some(tenant("slow")), || 7).await;
        drop((one, two));
        (late, begun.elapsed())
    };
    let (.., (late, took)) =
        tokio::join!(threads.run(Some(tenant("slow")), first), threads.run(Some(tenant("slow")), second), late);
    assert_eq!(late, Err(Lost::Busy));
    assert!((600..5_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_tenant_whose_work_has_lost_threads_has_none_left_and_others_have() {
    let lost_threads_max = NonZeroU8::MIN.saturating_add(3);
    let threads = Threads::new(&TemplateSettings {
        lost_threads_max,
        threads: NonZeroU8::MIN,
        render_timeout: HumanDuration(SOON),
        ..TemplateSettings::default()
    });
    let ((one, first), (two, second)) = (stuck(), stuck());
    assert_eq!(threads.run(Some(tenant("slow")), first).await, Err(Lost::GivenUp));
    assert_eq!(threads.run(Some(tenant("slow")), second).await, Err(Lost::GivenUp));
    assert_eq!(threads.run(Some(tenant("slow")), || 7).await, Err(Lost::Stuck));
    assert_eq!(threads.run(Some(tenant("quick")), || 7).await, Ok(7));
    drop((one, two));
    wait_until_none_is_lost(&threads);
    assert_eq!(threads.run(Some(tenant("slow")), || 7).await, Ok(7));
}

#[tokio::test]
async fn who_goes_away_leaves_nothing_that_hinders_others() {
    let threads = threads(2, SOON);
    let (let_go, work) = stuck();
    // Dropped while it runs: nobody is left to give it up but the next who comes.
    _ = tokio::time::timeout(Duration::from_millis(50), threads.run(None, work)).await;
    assert_eq!(threads.run(None, || 7).await, Ok(7));
    drop(let_go);
}
