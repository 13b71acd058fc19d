//! A client, production, the engine beside it, and a shadow, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use shadow_engine::exchange::Exchange;
use shadow_engine::rules::Proposal;
use shadow_engine::time::{Duration, Instant};
use shadow_engine::wire::Packet;
use shadow_engine::{Answered, Engine, EngineConfig, Offload, Question, QuestionId, Want};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use crate::script::{Dice, Framing, Script};
use crate::stack::Stack;
use crate::tso;

/// Where a packet is going.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Client,
    Production,
    Shadow,
    Mirror,
}

/// A packet under way: when it arrives, in order of sending, and where.
type InFlight = (Reverse<(Instant, u64)>, Place, Vec<u8>);

/// What the network and the servers do to a conversation.
#[derive(Clone, Debug)]
pub struct Weather {
    pub client_latency: Duration,
    pub shadow_latency: Duration,
    /// Percent of the client's packets that the network delivers twice or late.
    pub client_duplicates: u64,
    pub client_late: u64,
    /// Percent of packets between mirror and shadow that are lost.
    pub shadow_loss: u64,
    /// Percent of packets to production that the capture misses.
    pub capture_loss: u64,
    /// The shadow's answer is so many octets longer.
    pub longer_answers: usize,
    /// Percent of production's packets of which there is no copy.
    pub answer_loss: u64,
    /// Requests are read only after the answers that were captured at the same time.
    pub requests_late: bool,
    /// How long the shadow thinks.
    pub shadow_thinks: Duration,
    pub buffer: usize,
}

struct Server {
    handle: SocketHandle,
    received: Vec<u8>,
    /// Octets of `received` that belong to answered requests.
    consumed: usize,
    answers: VecDeque<(Instant, Vec<u8>)>,
    pub answered: usize,
    longer: usize,
    thinks: Duration,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lens: Vec<_> = self
            .script
            .exchanges
            .iter()
            .map(|e| (e.request.len(), e.answer, e.pipelined))
            .collect();
        write!(
            f,
            "{:?} {lens:?} sent {} queued {} received {}",
            self.script.framing,
            self.sent,
            self.queue.len(),
            self.received
        )
    }
}

struct User {
    handle: SocketHandle,
    script: Script,
    sent: usize,
    queue: VecDeque<u8>,
    received: usize,
}

pub struct World {
    pub now: Instant,
    pub engine: Engine,
    client: Stack,
    production: Stack,
    shadow: Stack,
    users: Vec<User>,
    servers: Vec<Server>,
    shadows: Vec<Server>,
    in_flight: BinaryHeap<InFlight>,
    count: u64,
    dice: Dice,
    weather: Weather,
    pub lost_capture: bool,
    late: VecDeque<Vec<u8>>,
    /// What the engine wants of production's answers, by client.
    wants: HashMap<SocketAddr, Want>,
    /// Answers of which only the headers were copied.
    pub abridged: u64,
    pub lost_answers: u64,
    pub exchanges: Vec<Exchange>,
    /// Who is asked about requests, if anybody is.
    pub program: Option<Program>,
    /// Its answers on their way.
    answers: Vec<(Instant, QuestionId, Answered)>,
    /// Answers that came when nobody waited for them any more.
    pub answered_late: u64,
}

/// A program that is asked about requests: what it answers, and how long that takes.
pub type Program = fn(&Proposal, &mut Dice) -> Option<(Duration, Answered)>;

pub const SHADOW: &str = "10.0.0.9";
const PRODUCTION: &str = "10.0.0.5";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl World {
    pub fn new(
        seed: u64,
        weather: Weather,
        scripts: &[Script],
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut client = Stack::new(ip("10.0.0.1"), 1_500, seed, now);
        let mut production = Stack::new(ip(PRODUCTION), 1_500, seed + 1, now);
        let mut shadow = Stack::new(ip(SHADOW), 1_500, seed + 2, now);
        let mut users = Vec::new();
        let mut servers = Vec::new();
        let mut shadows = Vec::new();
        for (index, script) in scripts.iter().enumerate() {
            let server = |handle, longer, thinks| Server {
                handle,
                received: Vec::new(),
                consumed: 0,
                answers: VecDeque::new(),
                answered: 0,
                longer,
                thinks,
            };
            servers.push(server(production.listen(80, 65_535), 0, Duration::ZERO));
            let listener = shadow.listen(8_080, weather.buffer);
            shadows.push(server(listener, weather.longer_answers, weather.shadow_thinks));
            let remote = SocketAddr::new(ip(PRODUCTION), 80);
            users.push(User {
                handle: client.connect(40_000 + index as u16, remote, 65_535),
                script: script.clone(),
                sent: 0,
                queue: VecDeque::new(),
                received: 0,
            });
        }
        let mut config = EngineConfig::new(
            SocketAddr::new(ip(SHADOW), 8_080),
            ip(PRODUCTION),
            seed.to_be_bytes().repeat(2).try_into().unwrap(),
        );
        adjust(&mut config);
        Self {
            now,
            engine: Engine::new(config),
            client,
            production,
            shadow,
            users,
            servers,
            shadows,
            in_flight: BinaryHeap::new(),
            count: 0,
            dice: Dice::new(seed),
            weather,
            lost_capture: false,
            late: VecDeque::new(),
            wants: HashMap::new(),
            abridged: 0,
            lost_answers: 0,
            exchanges: Vec::new(),
            program: None,
            answers: Vec::new(),
            answered_late: 0,
        }
    }

    /// Hands questions to the program, and back what it has answered by now.
    fn ask(&mut self) {
        while let Some(Question { id, proposal }) = self.engine.poll_question() {
            let program = self.program.expect("somebody is there to be asked");
            if let Some((takes, answered)) = program(&proposal, &mut self.dice) {
                self.answers.push((self.now + takes, id, answered));
            }
        }
        let now = self.now;
        for (_, id, answered) in self.answers.extract_if(.., |(at, ..)| *at <= now) {
            self.answered_late += u64::from(!self.engine.answer(id, answered, now));
        }
    }

    fn send(&mut self, place: Place, packet: Vec<u8>, latency: Duration) {
        self.count += 1;
        self.in_flight.push((Reverse((self.now + latency, self.count)), place, packet));
    }

    fn arrive(&mut self, place: Place, packet: Vec<u8>) {
        if std::env::var_os("SHADOWTAP_TRACE").is_some() {
            let packet = shadow_engine::wire::Packet::parse(&packet).unwrap();
            let segment = packet.segment;
            eprintln!(
                "{:>12} {place:?} :{} seq {} ack {} wnd {} len {} {:?}",
                self.now.as_nanos() / 1_000,
                packet.source.port(),
                segment.seq,
                segment.ack,
                segment.wnd,
                segment.payload.len(),
                segment.flags
            );
        }
        match place {
            Place::Client => self.client.receive(packet),
            Place::Shadow => self.shadow.receive(packet),
            Place::Mirror => self.engine.handle_reply(&packet, self.now, self.now),
            Place::Production => {
                if self.dice.chance(self.weather.capture_loss) {
                    self.lost_capture = true;
                    self.engine.note_capture_loss(self.now);
                } else if self.weather.requests_late {
                    self.late.push_back(packet.clone());
                } else {
                    self.engine.handle_capture(&packet, self.now, self.now);
                }
                self.production.receive(packet);
            }
        }
    }

    /// Lets everybody work until there is nothing more to do at this time.
    fn settle(&mut self) {
        for user in &mut self.users {
            user.work(self.client.tcp(user.handle));
        }
        for server in &mut self.servers {
            server.work(self.production.tcp(server.handle), self.now);
        }
        for server in &mut self.shadows {
            server.work(self.shadow.tcp(server.handle), self.now);
        }
        let weather = self.weather.clone();
        for packet in self.client.poll(self.now) {
            if self.dice.chance(weather.client_duplicates) {
                self.send(Place::Production, packet.clone(), weather.client_latency * 2);
            }
            let late = if self.dice.chance(weather.client_late) { 3 } else { 1 };
            self.send(Place::Production, packet, weather.client_latency * late);
        }
        for packet in self.production.poll(self.now) {
            self.tap_out(&packet);
            self.send(Place::Client, packet, weather.client_latency);
        }
        for packet in self.shadow.poll(self.now) {
            if !self.dice.chance(weather.shadow_loss) {
                self.send(Place::Mirror, packet, weather.shadow_latency);
            }
        }
        for packet in std::mem::take(&mut self.late) {
            self.engine.handle_capture(&packet, self.now, self.now);
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        self.ask();
        let mut packet = Vec::new();
        let offload = Offload::Segmentation;
        while let Some(transmit) =
            self.engine.poll_transmit_offloaded(self.now, offload, &mut packet)
        {
            for packet in tso::packets(&std::mem::take(&mut packet), transmit) {
                assert!(packet.len() <= 1_500, "a packet of {} octets", packet.len());
                if !self.dice.chance(weather.shadow_loss) {
                    self.send(Place::Shadow, packet, weather.shadow_latency);
                }
            }
        }
    }

    /// What the tap at egress does with a packet of production's.
    fn tap_out(&mut self, bytes: &[u8]) {
        while let Some(order) = self.engine.poll_order() {
            self.wants.insert(order.client, order.want);
        }
        for (client, told) in &self.wants {
            // A new connection of the client's may have begun that nothing was told of yet.
            let wanted = self.engine.wanted(*client, SocketAddr::new(ip(PRODUCTION), 80));
            let is_told = wanted.is_none_or(|wanted| wanted == *told || wanted == Want::All);
            assert!(is_told, "{client}: {told:?} was told, and {wanted:?} is wanted");
        }
        let packet = Packet::parse(bytes).unwrap();
        let segment = packet.segment;
        if segment.payload.is_empty() && !segment.flags.fin && !segment.flags.rst {
            return;
        }
        if self.weather.answer_loss != 0 && self.dice.chance(self.weather.answer_loss) {
            self.lost_answers += 1;
            return;
        }
        let mut len = bytes.len();
        match self.wants.get(&packet.destination) {
            Some(Want::Nothing) => return,
            Some(Want::AllBut { from, until }) => {
                let begin = segment.seq.get().wrapping_sub(*from);
                let end = begin.saturating_add(segment.payload.len() as u32);
                if !segment.payload.is_empty() && end <= until.wrapping_sub(*from) {
                    len -= segment.payload.len();
                    self.abridged += 1;
                }
            }
            Some(Want::All | Want::Forget) | None => {}
        }
        self.engine.handle_response(&bytes[..len], self.now, self.now);
    }

    /// Goes on to the next point in time at which something happens; false when nothing will.
    pub fn step(&mut self) -> bool {
        // Twice: what a stack has received makes room for what its application sends next.
        self.settle();
        self.settle();
        self.exchanges.extend(std::iter::from_fn(|| self.engine.poll_exchange()).map(|it| *it));
        self.check();
        let answers = self
            .shadows
            .iter()
            .filter_map(|server| server.answers.front().map(|a| a.0))
            .filter(|at| *at > self.now);
        let next = [
            self.in_flight.peek().map(|(Reverse((at, _)), ..)| *at),
            self.client.poll_at(self.now),
            self.production.poll_at(self.now),
            self.shadow.poll_at(self.now),
            self.engine.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .chain(answers)
        .chain(self.answers.iter().map(|(at, ..)| *at))
        .min();
        let Some(next) = next else { return false };
        // Whoever asks to be called now again is called a little later: time goes on.
        self.now = if next <= self.now { self.now + Duration::from_micros(50) } else { next };
        while let Some((Reverse((at, _)), ..)) = self.in_flight.peek() {
            if *at > self.now {
                break;
            }
            let Some((_, place, packet)) = self.in_flight.pop() else { break };
            self.arrive(place, packet);
        }
        true
    }

    /// What must hold at every step.
    fn check(&self) {
        self.engine.books().check(false).unwrap();
        for shadow in &self.shadows {
            let Some(user) = self.user_of(shadow) else { continue };
            // Without messages an answer's end is only guessed where it is not as production's.
            let guessed = self.weather.longer_answers > 0 || self.weather.shadow_loss > 0;
            if user.script.framing == Framing::Lengths && guessed {
                continue;
            }
            // Causality: no request before the answers that its client had seen.
            let mut end = 0;
            let mut awaited = 0;
            let mut sent = 0;
            for (index, exchange) in user.script.exchanges.iter().enumerate() {
                if !exchange.pipelined {
                    awaited = sent;
                }
                let Some(wished) = &exchange.wished else { continue };
                if shadow.received.len() > end {
                    assert!(
                        shadow.answered >= awaited,
                        "request {index} came after {} answers instead of {awaited}: {user:?} {:#?}",
                        shadow.answered,
                        self.engine.books()
                    );
                }
                end += wished.len();
                sent += 1;
            }
        }
    }

    /// Whose stream the shadow's socket received: streams are random, so their beginnings tell.
    fn user_of(&self, shadow: &Server) -> Option<&User> {
        if shadow.received.is_empty() {
            return None;
        }
        let user =
            self.users.iter().find(|user| user.script.wished().starts_with(&shadow.received));
        assert!(user.is_some(), "the shadow received what it shall not");
        user
    }

    /// Whether all that the shadow shall get of each client's stream has arrived there.
    pub fn whole(&self) -> bool {
        let whole = |user: &User| {
            let stream = user.script.wished();
            self.shadows.iter().any(|shadow| shadow.received == stream)
        };
        self.users.iter().all(whole)
    }

    /// Whether each client has all of production's answers.
    pub fn users_served(&self) -> bool {
        self.users.iter().all(|user| {
            user.received == user.script.exchanges.iter().map(|e| e.answer).sum::<usize>()
        })
    }

    pub fn describe(&mut self) -> String {
        let mut text = String::new();
        for user in &self.users {
            let state = self.client.tcp(user.handle).state();
            text += &format!("user {state} {user:?}\n");
        }
        for (name, stack, servers) in [
            ("production", &mut self.production, &self.servers),
            ("shadow", &mut self.shadow, &self.shadows),
        ] {
            for server in servers {
                let state = stack.tcp(server.handle).state();
                text += &format!(
                    "{name} {state} received {} consumed {} answered {}\n",
                    server.received.len(),
                    server.consumed,
                    server.answered
                );
            }
        }
        text
    }

    pub fn longer_answers(&self) -> usize {
        self.weather.longer_answers
    }

    pub fn requests(&self) -> u64 {
        self.users
            .iter()
            .filter(|user| user.script.framing == Framing::Http1)
            .map(|user| user.script.exchanges.len() as u64)
            .sum()
    }
}

impl User {
    fn work(&mut self, socket: &mut tcp::Socket<'_>) {
        while let Some(exchange) = self.script.exchanges.get(self.sent) {
            let awaited: usize = self.script.exchanges[..self.sent].iter().map(|e| e.answer).sum();
            if !exchange.pipelined && self.received < awaited {
                break;
            }
            self.queue.extend(&exchange.request);
            self.sent += 1;
        }
        while socket.can_send() && !self.queue.is_empty() {
            let sent = socket.send_slice(self.queue.make_contiguous()).unwrap();
            self.queue.drain(..sent);
        }
        while socket.can_recv() {
            self.received += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        let all: usize = self.script.exchanges.iter().map(|e| e.answer).sum();
        if self.received == all && self.sent == self.script.exchanges.len() {
            socket.close();
        }
    }
}

impl Server {
    fn work(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) {
        while socket.can_recv() {
            let bytes = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
            self.received.extend(bytes);
        }
        let framing = Framing::of(&self.received);
        while let Some((len, answer)) = framing.request(&self.received[self.consumed..]) {
            self.consumed += len;
            self.answers.push_back((now + self.thinks, framing.answer(answer + self.longer)));
        }
        while let Some((at, answer)) = self.answers.front_mut() {
            if *at > now || !socket.can_send() {
                break;
            }
            let sent = socket.send_slice(answer).unwrap();
            answer.drain(..sent);
            if answer.is_empty() {
                self.answers.pop_front();
                self.answered += 1;
            }
        }
        if socket.state() == tcp::State::CloseWait && self.answers.is_empty() {
            socket.close();
        }
    }
}
