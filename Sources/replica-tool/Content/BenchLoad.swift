import Glibc
import HostIO
import Primitives
import Replication
import Storage

/// What a load is put on.
protocol BenchSubject: AnyObject, Sendable {
    var size: UInt64 { get }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError)
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(ToolError)
    func flush() throws(ToolError)
}

final class EngineSubject: BenchSubject {
    private let engine: Engine
    init(_ engine: Engine) { self.engine = engine }
    var size: UInt64 { engine.size }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError) {
        try during("read") { () throws(StoreError) in try engine.read(at: offset, into: buffer) }
    }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(ToolError) {
        try during("write") { () throws(StoreError) in try engine.write(bytes, at: offset, durability: .ordinary) }
    }
    func flush() throws(ToolError) { try during("flush", engine.flush) }
}

final class FileSubject: BenchSubject {
    private let file: RawFile
    init(_ file: RawFile) { self.file = file }
    var size: UInt64 { file.size }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError) {
        try file.read(at: offset, into: buffer)
    }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(ToolError) {
        try file.write(bytes, at: offset)
    }
    func flush() throws(ToolError) {
        guard fdatasync(file.descriptor) == 0 else { throw file.failed("fdatasync") }
    }
}

/// A number of threads, each with one request at a time, for a time.
struct BenchLoad: Sendable {
    enum Pattern: String, Sendable, CaseIterable {
        case read, write, randread, randwrite, randrw
        var writes: Bool { self != .read && self != .randread }
        var isRandom: Bool { self != .read && self != .write }
    }

    struct Result: Sendable {
        var reads = Latencies()
        var writes = Latencies()
        var flushes = Latencies()
        var elapsedNs: UInt64 = 0

        mutating func merge(_ other: Result) {
            reads.merge(other.reads)
            writes.merge(other.writes)
            flushes.merge(other.flushes)
        }
    }

    var pattern: Pattern
    var blockBytes: UInt64
    var depth: Int
    /// A flush after so many writes of a thread; 0: none.
    var flushEvery: Int
    var nanoseconds: UInt64

    private struct Shared {
        var left: Int
        var result = Result()
        var failure: ToolError?
        var doneBytes: UInt64 = 0
        /// The next block of a sequential pattern.
        var next: UInt64 = 0
        var isOver = false
    }

    func run(_ subject: any BenchSubject, host: any Host, seed: UInt64, meter: ProgressMeter) throws(ToolError)
        -> Result
    {
        let blocks = subject.size / blockBytes
        guard blocks > 0 else {
            throw ToolError(
                .usage, "--bs \(blockBytes) is larger than the \(SizeText.human(subject.size)) to be measured")
        }
        let shared = Guarded(Shared(left: depth))
        let start = host.monotonicNs()
        for index in 0..<depth {
            _ = host.startThread(name: "bench-\(index)") {
                let random = seed &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15
                work(subject, host, shared, start: start, blocks: blocks, seed: random)
            }
        }
        while shared.wait(forNs: 200_000_000, until: { $0.left == 0 ? true : nil }) == nil {
            let elapsed = host.monotonicNs() - start
            if meter.update(done: min(elapsed, nanoseconds), total: nanoseconds) {
                shared.withLock { $0.isOver = true }
            }
        }
        let elapsed = host.monotonicNs() - start
        let (result, failure) = shared.withLock { ($0.result, $0.failure) }
        if let failure { throw failure }
        if Interruption.shared.isRequested { throw ToolError(.interrupted, "interrupted") }
        var total = result
        total.elapsedNs = elapsed
        return total
    }

    private func work(
        _ subject: any BenchSubject, _ host: any Host, _ shared: Guarded<Shared>, start: UInt64, blocks: UInt64,
        seed: UInt64
    ) {
        var random = SplitMix(state: seed)
        var result = Result()
        var failure: ToolError?
        let buffer = ByteBuffer(count: Int(blockBytes))
        for offset in stride(from: 0, to: buffer.count - 7, by: 8) { buffer.bytes.store(random.next(), at: offset) }
        var writes = 0
        do throws(ToolError) {
            while true {
                let before = host.monotonicNs()
                if before - start >= nanoseconds { break }
                let (isOver, turn) = shared.withLock { shared -> (Bool, UInt64) in
                    shared.next += 1
                    return (shared.isOver, shared.next - 1)
                }
                if isOver { break }
                let offset = (pattern.isRandom ? random.next() % blocks : turn % blocks) * blockBytes
                let isWrite = pattern == .randrw ? random.next() & 1 == 0 : pattern.writes
                if isWrite {
                    // Another content each time, so that nothing can be saved by finding it equal.
                    if buffer.count >= 8 { buffer.bytes.store(random.next(), at: 0) }
                    try subject.write(buffer.readable, at: offset)
                    result.writes.add(host.monotonicNs() - before)
                    writes += 1
                    if flushEvery > 0, writes % flushEvery == 0 {
                        let flushed = host.monotonicNs()
                        try subject.flush()
                        result.flushes.add(host.monotonicNs() - flushed)
                    }
                } else {
                    try subject.read(at: offset, into: buffer.bytes)
                    result.reads.add(host.monotonicNs() - before)
                }
            }
        } catch {
            failure = error
        }
        let (mine, problem) = (result, failure)
        shared.withLock { shared in
            shared.result.merge(mine)
            if let problem, shared.failure == nil {
                shared.failure = problem
                shared.isOver = true
            }
            shared.left -= 1
        }
        shared.wakeAll()
    }
}

/// splitmix64: the same numbers for the same seed.
struct SplitMix {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
