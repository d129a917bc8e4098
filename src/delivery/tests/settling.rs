//! The dispatcher while the store is slow to write what became of mails.

use super::super::under_way::SETTLING_MAX;
use super::*;
use crate::store::KeyStore as _;

/// A house with so many mails that are due now, all refused at RCPT, while the store's writer is kept busy.
async fn refused_while_the_store_stalls(mails: usize) -> (House, Vec<MessageId>, std::sync::mpsc::Sender<()>) {
    let house = House::with((0..mails).map(|_| Next::Refuse(RefusedCommand::Rcpt, 550, "5.1.1 no")));
    let due_at = house.clock.now().checked_add(Duration::from_secs(10)).unwrap();
    let ids = futures_util::future::join_all((0..mails).map(|_| house.accept_for(due_at))).await;
    let stalled = house.store.stall();
    house.clock.advance(Duration::from_secs(10));
    (house, ids, stalled)
}

impl House {
    /// Lets time pass, in steps, until the courier was offered so many mails or `steps` have passed.
    async fn offered(&self, mails: usize, steps: u32) -> usize {
        for _ in 0..steps {
            if self.courier.with(|told| told.offered >= mails) {
                break;
            }
            self.clock.advance(Duration::from_millis(1));
            // Answered by a thread of the store: what was asked before it had its turn.
            self.store.keys().await.unwrap();
        }
        self.courier.with(|told| told.offered)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_serves_the_next_mail_while_the_last_ones_outcome_is_written() {
    let (house, ids, stalled) = refused_while_the_store_stalls(20).await;
    assert_eq!(house.offered(20, 100_000).await, 20, "of four sessions");
    drop(stalled);
    for id in ids {
        assert_eq!(house.until(id, |message| message.status == Status::Bounced).await.attempts, 1);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_started_while_too_many_outcomes_wait_to_be_written() {
    let (house, ids, stalled) = refused_while_the_store_stalls(SETTLING_MAX + 100).await;
    house.offered(SETTLING_MAX, 100_000).await;
    // Three sessions are one domain's: what they were offered when the last outcome came.
    let offered = house.offered(ids.len(), 2_000).await;
    assert!((SETTLING_MAX..SETTLING_MAX + 3).contains(&offered), "{offered}");
    drop(stalled);
    for id in ids {
        assert_eq!(house.until(id, |message| message.status == Status::Bounced).await.attempts, 1);
    }
    house.stop().await;
}
