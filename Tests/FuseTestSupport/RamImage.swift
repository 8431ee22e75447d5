public import FuseFrontend
internal import Glibc
internal import Primitives

/// What a `RamImage` was asked to do.
public struct RamCounters: Sendable, Hashable {
    public var reads = 0
    public var writes = 0
    public var durableWrites = 0
    public var durableEmptyings = 0
    public var flushes = 0
    public var reservations = 0
    public var largestRead = 0
    public var largestWrite = 0
    /// Writes whose data did not begin at a page boundary in memory.
    public var unalignedBuffers = 0
    public init() {}
}

/// A flat array of bytes with holes, in blocks of 4096: the model that a mount is compared with.
public final class RamImage: MountedImage, @unchecked Sendable {
    private struct State {
        var size: UInt64
        var isPresent: [Bool]
        var counters = RamCounters()
        /// Writes since the last flush: none may be left when a durable request has been answered.
        var unflushed = 0
        var failure: MountError?
    }
    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    private let state: Guarded<State>
    /// Called at the begin of each read and write, before anything else and with no lock held.
    private let gate: @Sendable () -> Void

    public init(size: UInt64, capacity: UInt64? = nil, gate: @escaping @Sendable () -> Void = {}) {
        self.capacity = Int(capacity ?? size)
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, self.capacity, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            invariantFailed("no memory for \(self.capacity) bytes")
        }
        self.memory = memory
        self.gate = gate
        state = Guarded(State(size: size, isPresent: [Bool](repeating: false, count: (self.capacity + 4095) / 4096)))
    }

    deinit { munmap(memory, capacity) }

    public var counters: RamCounters { state.withLock { $0.counters } }
    /// Writes that no flush has followed.
    public var unflushed: Int { state.withLock { $0.unflushed } }
    public func fail(with error: MountError?) { state.withLock { $0.failure = error } }
    public func resize(to size: UInt64) { state.withLock { $0.size = size } }

    /// A copy of the present content.
    public func copy() -> RamImage {
        let copy = RamImage(size: size, capacity: UInt64(capacity))
        let present = state.withLock { state in
            copy.memory.copyMemory(from: memory, byteCount: capacity)
            return state.isPresent
        }
        copy.state.withLock { $0.isPresent = present }
        return copy
    }

    /// Takes over the content of another image of the same size.
    public func revert(to other: RamImage) {
        let present = other.state.withLock { $0.isPresent }
        state.withLock { state in
            memory.copyMemory(from: other.memory, byteCount: capacity)
            state.isPresent = present
        }
    }

    public var bytes: [UInt8] {
        state.withLock { Array(UnsafeRawBufferPointer(start: memory, count: Int($0.size))) }
    }

    public var size: UInt64 { state.withLock { $0.size } }

    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(MountError) {
        gate()
        try state.withLock { state throws(MountError) in
            try check(offset, UInt64(buffer.count), state)
            state.counters.reads += 1
            state.counters.largestRead = max(state.counters.largestRead, buffer.count)
            buffer.copyMemory(from: UnsafeRawBufferPointer(start: memory + Int(offset), count: buffer.count))
        }
    }

    public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) throws(MountError) {
        gate()
        try state.withLock { state throws(MountError) in
            try check(offset, UInt64(bytes.count), state)
            if let start = bytes.baseAddress { (memory + Int(offset)).copyMemory(from: start, byteCount: bytes.count) }
            for block in Int(offset / 4096)..<Int((offset + UInt64(bytes.count) + 4095) / 4096) {
                state.isPresent[block] = true
            }
            state.counters.writes += 1
            state.counters.largestWrite = max(state.counters.largestWrite, bytes.count)
            if Int(bitPattern: bytes.baseAddress) % 4096 != 0 { state.counters.unalignedBuffers += 1 }
            state.unflushed = durable ? 0 : state.unflushed + 1
            if durable { state.counters.durableWrites += 1 }
        }
    }

    public func empty(at offset: UInt64, length: UInt64, _ how: MountedEmptying, durable: Bool) throws(MountError) {
        try state.withLock { state throws(MountError) in
            try check(offset, length, state)
            (memory + Int(offset)).initializeMemory(as: UInt8.self, repeating: 0, count: Int(length))
            let whole = Int((offset + 4095) / 4096)..<max(Int((offset + 4095) / 4096), Int((offset + length) / 4096))
            for block in whole { state.isPresent[block] = false }
            state.unflushed = durable ? 0 : state.unflushed + 1
            if durable { state.counters.durableEmptyings += 1 }
        }
    }

    public func reserve(at offset: UInt64, length: UInt64) throws(MountError) {
        try state.withLock { state throws(MountError) in
            try check(offset, length, state)
            state.counters.reservations += 1
        }
    }

    public func flush() throws(MountError) {
        try state.withLock { state throws(MountError) in
            if let failure = state.failure { throw failure }
            state.counters.flushes += 1
            state.unflushed = 0
        }
    }

    public func nextData(from offset: UInt64) throws(MountError) -> UInt64? { next(from: offset, true) }
    public func nextHole(from offset: UInt64) throws(MountError) -> UInt64 { next(from: offset, false) ?? size }

    private func next(from offset: UInt64, _ wanted: Bool) -> UInt64? {
        state.withLock { state in
            let blocks = Int(offset / 4096)..<Int((state.size + 4095) / 4096)
            guard let block = blocks.first(where: { state.isPresent[$0] == wanted }) else { return nil }
            return max(offset, UInt64(block) * 4096)
        }
    }

    public func allocatedBytes() throws(MountError) -> UInt64 {
        state.withLock { UInt64($0.isPresent.count { $0 }) * 4096 }
    }

    private func check(_ offset: UInt64, _ length: UInt64, _ state: State) throws(MountError) {
        invariant(offset + length <= state.size, "\(offset)+\(length) of \(state.size) bytes")
        if let failure = state.failure { throw failure }
    }
}

/// An image that keeps nothing and answers at once: what is measured on it is the way to it and back.
public final class EmptyImage: MountedImage {
    public let size: UInt64
    public init(size: UInt64) { self.size = size }
    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(MountError) {}
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) throws(MountError) {}
    public func empty(at offset: UInt64, length: UInt64, _ how: MountedEmptying, durable: Bool) throws(MountError) {}
    public func reserve(at offset: UInt64, length: UInt64) throws(MountError) {}
    public func flush() throws(MountError) {}
    public func nextData(from offset: UInt64) throws(MountError) -> UInt64? { nil }
    public func nextHole(from offset: UInt64) throws(MountError) -> UInt64 { offset }
    public func allocatedBytes() throws(MountError) -> UInt64 { 0 }
}
