import Glibc
import HostIO
import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// Several clients at once on one volume, each with bytes of its own; neighbours share the blocks at their borders.
///
/// The order of operations differs from run to run here, so a seed does not repeat a failure; the check holds for
/// every order.
@Suite struct ConcurrentTests {
    /// What one client wrote: its bytes after each of its operations, by hash.
    private struct Track: Sendable {
        var bytes: [UInt8]
        var hashes: [UInt64]
        /// Operations acknowledged; one more may be running.
        var acknowledged = 0
        /// Operations that some flush covered.
        var flushed = 0
    }

    private final class Board: Sendable {
        struct State: Sendable {
            var tracks: [Track]
            var faults: [String] = []
            var states = 0
            var random: Generator
            var running: Int
        }
        let state: Guarded<State>
        init(_ clients: Int, _ length: Int, _ seed: UInt64) {
            let bytes = [UInt8](repeating: 0, count: length)
            let track = Track(bytes: bytes, hashes: [bytes.withUnsafeBytes(Picture.hash)])
            state = Guarded(
                State(
                    tracks: [Track](repeating: track, count: clients), random: Generator(seed: seed),
                    running: clients))
        }
    }

    /// Not a multiple of the block size, so that two clients meet in a block.
    private static let length = 150_000
    private static let clients = 4
    /// Enough for a ring of 4 MiB to go round more than once.
    private static let operations = 120

    @Test(arguments: Scale.seeds(8000, 2))
    func `several clients at once lose nothing that a flush covered, and nobody's bytes are another's`(
        seed: UInt64
    ) throws {
        // Every other seed with the store's own threads, which checkpoint while the clients write.
        let host = try Client.madeHost(blocks: 256, seed: seed, hasThreads: seed % 2 == 1)
        let engine = try Engine.open(path: Client.path, mode: .readWrite, host: host)
        let board = Board(Self.clients, Self.length, seed)
        host.onStep { [weak host] step in
            if let host { Self.look(host, board, step) }
            return .proceed
        }
        for client in 0..<Self.clients {
            runThread { Self.work(engine, board, client, seed) }
        }
        _ = board.state.wait { $0.running == 0 ? true : nil }
        host.onStep(nil)
        let (faults, states) = board.state.withLock { ($0.faults, $0.states) }
        for fault in faults { Issue.record("seed \(seed): \(fault)") }
        #expect(states > 10)
        try engine.flush()
        board.state.withLock { state in
            for index in state.tracks.indices { state.tracks[index].flushed = state.tracks[index].acknowledged }
        }
        if let fault = Self.fault(host.crash(.nothing), board.state.withLock { $0.tracks }, upTo: board) {
            Issue.record("seed \(seed), at the end: \(fault)")
        }
        try Recovery.verify(engine)
        #expect(engine.status().counters.journalBytes > Client.journalSize)
        try engine.close()
    }

    private static func work(_ engine: Engine, _ board: Board, _ client: Int, _ seed: UInt64) {
        var random = Generator(seed: seed &* 31 &+ UInt64(client))
        let start = UInt64(client * length)
        do {
            for _ in 0..<operations {
                if random.chance(20) {
                    let before = board.state.withLock { $0.tracks.map(\.acknowledged) }
                    try engine.flush()
                    board.state.withLock { state in
                        for (index, count) in before.enumerated() {
                            state.tracks[index].flushed = max(state.tracks[index].flushed, count)
                        }
                    }
                    continue
                }
                let count = 1 + random.below(random.chance(30) ? length : 9000)
                let place = random.below(length - count + 1)
                var bytes = [UInt8](repeating: 0, count: count)
                if random.chance(80) { bytes.withUnsafeMutableBytes { random.fill($0) } }
                // The hash stands there before the write runs: a crash may already show it.
                board.state.withLock { state in
                    state.tracks[client].bytes.replaceSubrange(place..<(place + count), with: bytes)
                    state.tracks[client].hashes.append(
                        state.tracks[client].bytes.withUnsafeBytes(Picture.hash))
                }
                try bytes.withUnsafeBytes {
                    try engine.write($0, at: start + UInt64(place), durability: .ordinary)
                }
                board.state.withLock { $0.tracks[client].acknowledged += 1 }
            }
        } catch {
            board.state.withLock { $0.faults.append("client \(client): \(error)") }
        }
        board.state.withLock { $0.running -= 1 }
        board.state.wakeAll()
    }

    /// What a flush covered is read before the crash is made, what may be there after it: so the other clients,
    /// which go on meanwhile, cannot make the check wrong.
    private static func look(_ host: SimulatedHost, _ board: Board, _ step: StepInfo) {
        let (isChosen, before, policy, policySeed) = board.state.withLock { state in
            let (policy, policySeed, _) = Crasher.plans(&state.random, 4)[state.random.below(4)]
            return (state.random.chance(8) && state.faults.count < 3, state.tracks, policy, policySeed)
        }
        if !isChosen { return }
        let next = host.crash(policy, seed: policySeed)
        board.state.withLock { $0.states += 1 }
        if let fault = fault(next, before, upTo: board) {
            board.state.withLock { $0.faults.append("\(step), \(policy) \(policySeed): \(fault)") }
        }
    }

    private static func fault(_ host: SimulatedHost, _ before: [Track], upTo board: Board) -> String? {
        let after = board.state.withLock { $0.tracks.map(\.hashes) }
        do {
            let engine = try Engine.open(path: Client.path, mode: .readWrite, host: host)
            if engine.recovery.outcome == .damaged { return "a power cut is reported as damage" }
            let found = try Client.read(engine, size: engine.size)
            for client in before.indices {
                let own = found[(client * length)..<((client + 1) * length)]
                let hash = own.withUnsafeBytes(Picture.hash)
                if !after[client][before[client].flushed...].contains(hash) {
                    let place = after[client].firstIndex(of: hash).map { "operation \($0)" } ?? "no operation"
                    return "client \(client) has the bytes of \(place), flushed are \(before[client].flushed)"
                }
            }
            return nil
        } catch {
            return "\(error)"
        }
    }
}

private final class ThreadBody {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// Runs `body` on a thread of its own.
private nonisolated func runThread(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        }, Unmanaged.passRetained(ThreadBody(body)).toOpaque())
    pthread_detach(thread)
}
