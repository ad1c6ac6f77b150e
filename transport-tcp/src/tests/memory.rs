//! Frames that share `Limits::total_bytes_max`.

use super::*;

#[tokio::test]
async fn long_frames_share_a_budget_of_one_and_all_complete() {
    let setup = Setup::new(Limits { total_bytes_max: 0, frame_bytes_max: 1 << 20, ..Limits::default() });
    let mut clients = Vec::new();
    let long = request(ECHO, 1, &vec![b'x'; 900_000]);
    for _ in 0..5 {
        let mut client = setup.client().await;
        client.send(&long[..100_000]).await;
        clients.push(client);
    }
    // The newest finishes first, and cannot before it is its turn.
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients.into_iter().rev() {
        let rest = long[100_000..].to_vec();
        tasks.spawn(async move {
            client.send(&rest).await;
            assert_eq!(client.next().await.map(|(_, _, body)| body.len()), Some(900_000));
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn who_announces_much_and_sends_nothing_holds_up_nobody() {
    let setup = Setup::new(Limits::default());
    let long = request(ECHO, 1, &vec![b'x'; (16 << 20) - 1000]);
    let mut announcing = Vec::new();
    for _ in 0..64 {
        let mut client = setup.client().await;
        // The answer to the short frame tells that what is behind it was read, too.
        client.send(&[&request(ECHO, 7, b""), &long[..9]].concat()).await;
        assert_eq!(client.next_opaque().await, Some(7));
        announcing.push(client);
    }
    assert_eq!(setup.transport.bytes_in_flight(), 0);
    let mut innocent = setup.client().await;
    let body = vec![b'i'; 1 << 20];
    let begun = tokio::time::Instant::now();
    for opaque in 0..10 {
        innocent.send(&request(ECHO, opaque, &body)).await;
        assert_eq!(
            innocent.next().await.map(|(_, opaque, body)| (opaque, body.len())),
            Some((opaque, 1 << 20))
        );
    }
    assert!(begun.elapsed() < Limits::default().slow_frame / 3, "{:?}", begun.elapsed());
    let mut last = announcing.pop().unwrap();
    last.send(&long[9..]).await;
    assert_eq!(last.next_opaque().await, Some(1));
}

#[tokio::test]
async fn half_arrived_frames_that_use_up_the_total_all_complete() {
    let limits = Limits { total_bytes_max: 1 << 20, frame_bytes_max: 1 << 20, ..Limits::default() };
    let setup = Setup::new(limits);
    let long = request(ECHO, 1, &vec![b'x'; 900_000]);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = setup.client().await;
        client.send(&long[..600_000]).await;
        clients.push(client);
    }
    while setup.transport.bytes_in_flight() <= 1 << 20 {
        tokio::task::yield_now().await;
    }
    assert!(setup.transport.bytes_in_flight() <= 2 << 20);
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients.into_iter().rev() {
        let rest = long[600_000..].to_vec();
        tasks.spawn(async move {
            client.send(&rest).await;
            assert_eq!(client.next().await.map(|(_, _, body)| body.len()), Some(900_000));
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_frame_above_the_total_is_closed_and_who_waited_is_served() {
    let limits = Limits { total_bytes_max: 1 << 20, frame_bytes_max: 1 << 20, ..Limits::default() };
    let mut setup = Setup::new(limits);
    let long = request(ECHO, 1, &vec![b'x'; 1_000_000]);
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut client = setup.client().await;
        client.send(&long[..600_000]).await;
        stalled.push(client);
    }
    while setup.transport.bytes_in_flight() <= 1 << 20 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut waiting = setup.client().await;
    // Short frames never wait.
    waiting.assert_served().await;
    waiting.send(&long).await;
    assert_eq!(waiting.next().await.map(|(_, _, body)| body.len()), Some(1_000_000));
    assert_eq!(setup.next_closed().await, CloseReason::SlowFrame);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_memory_for_ever() {
    let limits = Limits { total_bytes_max: 1 << 20, frame_bytes_max: 1 << 20, ..Limits::default() };
    let mut setup = Setup::new(limits);
    let long = request(ECHO, 1, &vec![b'x'; 1_000_000]);
    let mut clients = Vec::new();
    let begun = tokio::time::Instant::now();
    for _ in 0..6 {
        let mut client = setup.client().await;
        client.send(&long[..600_000]).await;
        clients.push(client);
    }
    for _ in &clients {
        assert_eq!(setup.next_closed().await, CloseReason::SlowFrame);
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(setup.transport.bytes_in_flight(), 0);
}
