//! A client that does just enough HTTP/1.1 to post and read an answer on a connection that stays open, so that what is measured is the
//! server.

use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, Semaphore},
};

/// One connection.
pub struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Posts and gives the body of a 200; anything else is an error.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut request =
            format!("POST {path} HTTP/1.1\r\nHost: log\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        self.answer.clear();
        let (head, length) = loop {
            self.more().await?;
            if let Some(head) = self.answer.windows(4).position(|w| w == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.answer[..head]).to_ascii_lowercase();
                let length =
                    text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
                break (head + 4, length.context("an answer without its length")?);
            }
        };
        while self.answer.len() < head + length {
            self.more().await?;
        }
        let body = self.answer[head..head + length].to_vec();
        ensure!(self.answer.starts_with(b"HTTP/1.1 200"), "not a 200: {}", String::from_utf8_lossy(&self.answer));
        Ok(body)
    }

    async fn more(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the server hung up");
        Ok(())
    }
}

/// Connections that appends take in turn.
#[derive(Clone)]
pub struct Pool(Arc<(Semaphore, Mutex<Vec<Client>>)>);

impl Pool {
    pub async fn connect(address: &str, count: usize) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Client::connect(address).await?);
        }
        Ok(Self(Arc::new((Semaphore::new(count), Mutex::new(clients)))))
    }

    pub async fn post(&self, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let (free, clients) = &*self.0;
        let _permit = free.acquire().await?;
        let mut client = clients.lock().await.pop().context("no connection is free")?;
        let answer = client.post(path, body).await;
        clients.lock().await.push(client);
        answer
    }
}
