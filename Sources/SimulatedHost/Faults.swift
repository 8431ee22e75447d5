public import HostIO
internal import Primitives

/// A change that a disk makes by itself.
public enum Rot: Sendable, Hashable {
    /// Inverts the bits of the mask in the byte at the offset.
    case flip(UInt8)
    /// Zeroes this many bytes.
    case zero(Int)
    case replace([UInt8])
}

extension SimulatedHost {
    /// The machine after a power cut at this moment: of what was not synced only what the policy keeps, no locks, no
    /// faults, no hook, no threads. This host stays as it is, so many futures can be made from one moment.
    public func crash(_ policy: CrashPolicy, seed: UInt64 = 0) -> SimulatedHost {
        var next = machine.withLock { $0 }.restarted()
        next.disk = next.disk.crashed(policy, seed: seed)
        next.generator = Generator(seed: next.generator.next() ^ seed)
        return SimulatedHost(next)
    }

    /// The machine after every process was killed: what was written stays in memory, locks are gone.
    public func killed() -> SimulatedHost { SimulatedHost(machine.withLock { $0 }.restarted()) }

    /// As `killed`, and memory has forgotten every file: reads show what the device holds.
    public func killedWithoutCache() -> SimulatedHost {
        var next = machine.withLock { $0 }.restarted()
        for number in next.disk.files.indices {
            next.disk.change(number) { file in
                if let stale = file.stale { file.current = stale }
                file.stale = nil
            }
        }
        return SimulatedHost(next)
    }

    /// How many units a crash at this moment decides about.
    public var pendingUnits: Int { machine.withLock { $0.disk }.pendingUnits() }

    /// Changes bytes of a file as a failing medium does: durable, on the device and in memory at once.
    /// - Throws: ENOENT.
    public func rot(_ path: String, at offset: UInt64, _ rot: Rot) throws(IOError) {
        try machine.withLock { (machine) throws(IOError) in
            guard case .file(let number)? = machine.disk.entry(path) else {
                throw IOError(call: "rot", path: path, code: errnoNotFound)
            }
            machine.disk.change(number) { file in
                file.current.rot(at: offset, rot)
                file.durable.rot(at: offset, rot)
                file.stale?.rot(at: offset, rot)
            }
        }
    }

    /// Gives a file other bytes altogether, durably: those of an older copy, say.
    /// - Throws: ENOENT.
    public func replace(_ path: String, with bytes: [UInt8]) throws(IOError) {
        try machine.withLock { (machine) throws(IOError) in
            guard case .file(let number)? = machine.disk.entry(path) else {
                throw IOError(call: "replace", path: path, code: errnoNotFound)
            }
            var content = Content()
            content.size = UInt64(bytes.count)
            for start in stride(from: 0, to: bytes.count, by: pageSize) {
                let part = bytes[start..<min(start + pageSize, bytes.count)]
                if part.contains(where: { $0 != 0 }) {
                    part.withUnsafeBytes { content.patch(UInt64(start) / pageSize64, at: 0, $0) }
                }
            }
            machine.disk.change(number) { $0 = FileNode(current: content, durable: content) }
        }
    }

    /// Lets reads that touch the range fail, until `clearBadRanges`.
    public func failReads(
        _ path: String, at offset: UInt64 = 0, count: UInt64 = .max / 2, code: Int32 = 5, onlyUncached: Bool = false
    ) {
        machine.withLock {
            $0.badRanges.append(
                BadRange(path: path, offset: offset, count: count, code: code, onlyUncached: onlyUncached))
        }
    }

    /// Makes every range readable again.
    public func clearBadRanges() { machine.withLock { $0.badRanges = [] } }
}

extension SimulatedHost.Machine {
    func restarted() -> Self {
        var next = self
        next.hook = nil
        next.options.hasThreads = false
        next.isOff = false
        next.stickyCode = nil
        next.badRanges = []
        next.locks = [:]
        let open = next.openHandles.keys
        next.openHandles = [:]
        for file in open.sorted() { next.disk.release(file) }
        return next
    }
}

extension Content {
    mutating func rot(at offset: UInt64, _ rot: Rot) {
        let bytes: [UInt8]
        switch rot {
        case .flip(let mask):
            var byte: UInt8 = 0
            _ = withUnsafeMutableBytes(of: &byte) { read(into: $0, at: offset) }
            bytes = [byte ^ mask]
        case .zero(let count): bytes = [UInt8](repeating: 0, count: count)
        case .replace(let given): bytes = given
        }
        bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count && offset + UInt64(done) < size {
                let position = offset + UInt64(done)
                let inside = Int(position % pageSize64)
                let part = min(pageSize - inside, bytes.count - done, Int(min(size - position, pageSize64)))
                patch(
                    position / pageSize64, at: inside, UnsafeRawBufferPointer(rebasing: bytes[done..<(done + part)]))
                done += part
            }
        }
    }
}
