import HostIO
import Primitives
import Replication
import SimulatedHost
import Storage
import Testing

/// Bytes change on the medium, or never reach it: each block is then right or refused, never wrong and never old.
@Suite struct RotTests {
    /// A volume with three snapshots' worth of history, and what every view of it must show.
    private struct Scene: Sendable {
        var host: SimulatedHost
        var oracle: Oracle
    }

    /// - Parameter isClean: closed in order; otherwise the power goes after a flush and one more write. Without that
    ///   write nothing on the disk would say that the flush had been, and rot could not be told from a torn write.
    private static func scene(_ seed: UInt64, isClean: Bool) throws -> Scene {
        let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
        var workload = Workload(seed: seed, mix: Mix(flush: 8, empty: 8, snapshots: 0, resize: 0, reopen: 0))
        for name in ["one", "two", "three"] {
            for _ in 0..<8 { try client.perform(workload.next(client.oracle)) }
            try client.perform(.createSnapshot(name))
        }
        for _ in 0..<8 { try client.perform(workload.next(client.oracle)) }
        try client.perform(.deleteSnapshot("two"))
        for _ in 0..<6 { try client.perform(workload.next(client.oracle)) }
        try client.perform(.flush)
        if isClean {
            try client.engine.close()
        } else {
            try client.perform(.write(offset: 0, count: 100, fill: seed, .ordinary))
        }
        return Scene(host: client.host.crash(.everything), oracle: client.oracle)
    }

    private enum Ending: Hashable { case refused, intact, partly, rolledBack }

    /// Opens what is left; nil if it is refused for a reason that damage may have.
    private static func open(_ host: SimulatedHost) throws -> Engine? {
        do {
            return try Engine.open(path: Client.path, mode: .readWrite, host: host)
        } catch {
            switch error {
            case .damagedMetadata, .replicaFailed, .unsupportedFormat, .io, .notFound: return nil
            default: throw Violation("it is refused as \(error)")
            }
        }
    }

    /// Opens what is left and reads every block of every view.
    /// - Parameter mayLoseFlushed: whether the fault took the only proof that there had been a flush.
    /// - Throws: `Violation` for a byte that is wrong.
    private static func examine(
        _ host: SimulatedHost, _ oracle: Oracle, mayLoseFlushed: Bool = false
    ) throws -> Ending {
        guard let engine = try open(host) else { return .refused }
        var ending = Ending.intact
        var expected = oracle.now.picture
        if engine.recovery.revision < oracle.now.revision {
            if engine.recovery.revision < oracle.flushedRevision && !mayLoseFlushed {
                throw Violation(
                    "\(engine.recovery.outcome.rawValue) at revision \(engine.recovery.revision), flushed are "
                        + "\(oracle.flushedRevision)")
            }
            guard let older = oracle.moments.last(where: { $0.revision == engine.recovery.revision }) else {
                throw Violation("revision \(engine.recovery.revision) was never reached")
            }
            expected = older.picture
            ending = .rolledBack
        }
        var bad = try wrongBlocks(engine, expected)
        for info in engine.snapshots() {
            guard let snapshot = oracle.snapshots[info.name] else {
                throw Violation("there is a snapshot \(info.name) that should not be")
            }
            do {
                bad += try wrongBlocks(try engine.openSnapshot(name: info.name), snapshot.picture)
            } catch is StoreError {
                bad += 1
            }
        }
        if bad > 0 && ending == .intact { ending = .partly }
        let report = try engine.verify(quick: false, rate: nil, progress: nil)
        if bad > 0 && !report.isDamaged { throw Violation("\(bad) blocks are refused, and verify finds no damage") }
        return ending
    }

    /// Reads block by block and counts those that are refused.
    private static func wrongBlocks(_ view: any VolumeView, _ expected: Picture) throws -> Int {
        if view.size != expected.size { throw Violation("its size is \(view.size), not \(expected.size)") }
        var bad = 0
        let buffer = ByteBuffer(count: blockSize)
        for block in expected.blocks.indices {
            do {
                try view.read(at: UInt64(block) * blockSize64, into: buffer.bytes)
                if Picture.hash(buffer.readable) != expected.blocks[block] {
                    throw Violation("block \(block) is served with other bytes")
                }
            } catch StoreError.damagedBlocks(let range, _) {
                if range.start != UInt64(block) || range.count != 1 {
                    throw Violation("block \(block) is refused as \(range)")
                }
                bad += 1
            } catch StoreError.damagedMetadata {
                bad += 1
            }
        }
        return bad
    }

    /// Places of a file where a change can matter, the beginnings of its pages among them.
    private static func places(_ bytes: [UInt8], _ count: Int, _ random: inout Generator) -> [UInt64] {
        let full = stride(from: 0, to: bytes.count, by: 512).filter { start in
            bytes[start..<min(start + 512, bytes.count)].contains { $0 != 0 }
        }
        if full.isEmpty { return [] }
        return (0..<count).map { _ in
            let start = full[random.below(full.count)]
            return UInt64(start + random.below(min(random.chance(50) ? 64 : 512, bytes.count - start)))
        }
    }

    @Test(arguments: Scale.seeds(6000, 2), [true, false])
    func `a byte that changes anywhere is never served, and two copies of a thing bear the loss of one`(
        seed: UInt64, isClean: Bool
    ) throws {
        let scene = try Self.scene(seed, isClean: isClean)
        var random = Generator(seed: seed)
        var endings: [Ending: Int] = [:]
        for path in scene.host.files(under: Client.path) {
            let name = String(path.dropFirst(Client.path.count + 1))
            let count = Int(12 * max(1, Scale.factor))
            for place in Self.places(try scene.host.bytes(of: path), count, &random) {
                let host = scene.host.killed()
                let rot: Rot
                switch random.below(4) {
                case 0: rot = .zero(blockSize)
                case 1: rot = .flip(1 << UInt8(random.below(8)))
                case 2: rot = .flip(UInt8(1 + random.below(255)))
                default: rot = .zero(512)
                }
                // Media lose whole sectors, and file systems whole blocks.
                var start = place
                if case .zero(let count) = rot { start = roundedDown(place, to: UInt64(count)) }
                try host.rot(path, at: start, rot)
                do {
                    let ending = try Self.examine(host, scene.oracle)
                    endings[ending, default: 0] += 1
                    if ending == .refused || ending == .partly {
                        // What exists twice does not refuse anything for the loss of one copy.
                        let isTwice = name == "super" || name.hasPrefix("chain.") || name == "LOCK" || name == "ballast"
                        #expect(!isTwice, "seed \(seed), \(rot) at \(place) of \(name): \(ending)")
                    }
                } catch {
                    Issue.record("seed \(seed), clean \(isClean), \(rot) at \(place) of \(name): \(error)")
                }
            }
        }
        #expect((endings[.intact] ?? 0) > 0 && (endings[.partly] ?? 0) > 0, "\(endings)")
    }

    @Test(arguments: Scale.seeds(6300, 1))
    func `a damaged block is not made good by a write to a part of it, only by one to all of it`(seed: UInt64) throws {
        let scene = try Self.scene(seed, isClean: true)
        var random = Generator(seed: seed)
        var tried = 0
        for path in scene.host.files(under: Client.path) where path.hasSuffix(".img") {
            for place in Self.places(try scene.host.bytes(of: path), 20, &random) {
                let host = scene.host.killed()
                try host.rot(path, at: place, .flip(0x10))
                let engine = try Engine.open(path: Client.path, mode: .readWrite, host: host)
                let start = roundedDown(place, to: blockSize64)
                let block = ByteBuffer(count: blockSize)
                // A newer layer may hide the damaged block.
                if (try? engine.read(at: start, into: block.bytes)) != nil { continue }
                tried += 1
                let own = BlockRange(start: start / blockSize64, count: 1)
                for (offset, count) in [(0, 100), (200, 8), (4000, 96), (0, 4095), (1, 4095)] {
                    do {
                        try engine.write(
                            UnsafeRawBufferPointer(block.part(0, count)), at: start + UInt64(offset),
                            durability: .ordinary)
                        Issue.record("seed \(seed): \(count) bytes at \(offset) made a damaged block good")
                    } catch StoreError.damagedBlocks(let range, _) {
                        #expect(range == own)
                    }
                }
                #expect(throws: StoreError.self) { try engine.read(at: start, into: block.bytes) }
                block.zero()
                try engine.write(block.readable, at: start, durability: .ordinary)
                try engine.read(at: start, into: block.bytes)
                #expect(block.readable.isZero)
                try engine.close()
                let again = try Engine.open(path: Client.path, mode: .readWrite, host: host)
                try again.read(at: start, into: block.bytes)
            }
        }
        #expect(tried > 5)
    }

    @Test(arguments: Scale.seeds(6400, 1))
    func `a block that the device refuses to read fails alone, and is there again when the device is`(
        seed: UInt64
    ) throws {
        let scene = try Self.scene(seed, isClean: true)
        let host = scene.host.killed()
        let engine = try Engine.open(path: Client.path, mode: .readWrite, host: host)
        let expected = scene.oracle.now.picture
        var refused = 0
        for path in scene.host.files(under: Client.path) where path.hasSuffix(".img") {
            for block in stride(from: 3, to: 250, by: 31) {
                host.failReads(path, at: UInt64(block) * blockSize64 + 512, count: 512)
                let bad = try Self.wrongBlocks(engine, expected)
                #expect(bad <= 1)
                refused += bad
                host.clearBadRanges()
                #expect(try Self.wrongBlocks(engine, expected) == 0)
            }
        }
        #expect(refused > 3)
        #expect(engine.status().state == "healthy")
        try engine.close()
    }

    @Test(arguments: Scale.seeds(6500, 1))
    func `a file that is gone, cut short or emptied is noticed`(seed: UInt64) throws {
        let scene = try Self.scene(seed, isClean: true)
        for path in scene.host.files(under: Client.path) {
            let name = String(path.dropFirst(Client.path.count + 1))
            let size = try scene.host.bytes(of: path).count
            for cut in [nil, 0, size / 2, size > 4096 ? size - 4096 : size - 1] as [Int?] where cut ?? 0 >= 0 {
                let host = scene.host.killed()
                let parent = try host.openDirectory(String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.endIndex)))
                let last = path.split(separator: "/").last.map(String.init) ?? ""
                if let cut {
                    try parent.open(last, .readWrite).truncate(to: UInt64(cut))
                } else {
                    try parent.remove(last)
                }
                do {
                    _ = try Self.examine(host, scene.oracle)
                } catch {
                    Issue.record("\(name), \(cut.map { "cut to \($0)" } ?? "gone"): \(error)")
                }
            }
        }
    }

    @Test(arguments: Scale.seeds(6700, 2))
    func `an older version of a file in the place of the newest is never served`(seed: UInt64) throws {
        let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
        var workload = Workload(seed: seed, mix: Mix(flush: 8, empty: 8, snapshots: 0, resize: 0, reopen: 5))
        var versions: [SimulatedHost] = []
        for name in ["one", "two", "three", "four"] {
            for _ in 0..<10 { try client.perform(workload.next(client.oracle)) }
            versions.append(client.host.crash(.everything))
            try client.perform(.createSnapshot(name))
        }
        for _ in 0..<10 { try client.perform(workload.next(client.oracle)) }
        try client.perform(.flush)
        let last = client.host.crash(.everything)
        for (age, version) in versions.enumerated() {
            for path in last.files(under: Client.path) {
                guard let old = try? version.bytes(of: path), try last.bytes(of: path) != old else { continue }
                let name = String(path.dropFirst(Client.path.count + 1))
                let host = last.killed()
                try host.replace(path, with: old)
                do {
                    // With all its batches gone, nothing tells that there were any.
                    _ = try Self.examine(host, client.oracle, mayLoseFlushed: name == "journal")
                } catch {
                    Issue.record("seed \(seed), \(name) as it was before snapshot \(age + 1): \(error)")
                }
            }
        }
    }

    @Test(arguments: Scale.seeds(7000, 2))
    func `a write that never reached the medium, or reached another place, is noticed`(seed: UInt64) throws {
        var random = Generator(seed: seed)
        let probe = try Client(try Client.madeHost(blocks: 256, seed: seed))
        let first = probe.host.steps + 1
        try Self.play(probe, seed)
        let steps = probe.host.steps - first
        for _ in 0..<Int(30 * max(1, Scale.factor)) {
            let chosen = first + random.below(steps)
            let isLost = random.chance(50)
            let client = try Client(try Client.madeHost(blocks: 256, seed: seed))
            let done = Guarded<String?>(nil)
            let place = roundedDown(random.below(UInt64(1 << 20)), to: 4096)
            client.host.onStep { step in
                guard step.number >= chosen, step.kind == .write else { return .proceed }
                let isFirst = done.withLock { done in
                    if done != nil { return false }
                    done = "\(step)"
                    return true
                }
                if !isFirst { return .proceed }
                return isLost ? .lostWrite : .misdirectedWrite(place)
            }
            try Self.play(client, seed)
            let note = "seed \(seed), \(isLost ? "lost" : "misdirected to \(place)") \(done.withLock { $0 } ?? "")"
            do {
                _ = try Self.examine(client.host.killedWithoutCache(), client.oracle)
            } catch {
                Issue.record("\(note): \(error)")
            }
        }
    }

    private static func play(_ client: Client, _ seed: UInt64) throws {
        var workload = Workload(seed: seed, mix: Mix(flush: 8, empty: 8, snapshots: 0, resize: 0, reopen: 0))
        for name in ["one", "two"] {
            for _ in 0..<6 { try client.perform(workload.next(client.oracle)) }
            try client.perform(.createSnapshot(name))
        }
        for _ in 0..<8 { try client.perform(workload.next(client.oracle)) }
        try client.engine.close()
        client.oracle.acknowledgeFlush()
    }
}
