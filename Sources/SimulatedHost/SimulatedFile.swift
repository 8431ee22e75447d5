internal import HostIO
internal import Primitives

/// An open file of a simulated host.
final class SimulatedFile: File {
    let path: String
    private let number: Int
    private let handle: Int
    private let host: SimulatedHost
    private let canWrite: Bool
    /// Whether reads come from the device and not from memory.
    private let isUncached: Bool

    init(path: String, number: Int, host: SimulatedHost, canWrite: Bool, isUncached: Bool = false) {
        self.path = path
        self.number = number
        self.host = host
        self.canWrite = canWrite
        self.isUncached = isUncached
        handle = host.machine.withLock { machine in
            machine.nextHandle += 1
            machine.openHandles[number, default: 0] += 1
            return machine.nextHandle
        }
    }

    deinit {
        let number = self.number
        let handle = self.handle
        host.machine.withLock { machine in
            if machine.locks[number] == handle { machine.locks[number] = nil }
            let left = machine.openHandles[number, default: 1] - 1
            machine.openHandles[number] = left == 0 ? nil : left
            if left == 0 { machine.disk.release(number) }
        }
    }

    private func look<Result>(
        _ call: String, _ body: (inout SimulatedHost.Machine) throws(IOError) -> Result
    ) throws(IOError) -> Result {
        try host.machine.withLock { (machine) throws(IOError) in
            if machine.isOff { throw IOError(call: call, path: path, code: SimulatedHost.machineOff) }
            return try body(&machine)
        }
    }

    /// Counts a step and throws if it fails; what is left is `proceed` or one of the special writes.
    private func step(
        _ kind: StepKind, _ call: String, offset: UInt64 = 0, count: UInt64 = 0
    ) throws(IOError) -> StepAction {
        let action = host.take(kind, path, offset: offset, count: count)
        if case .fail(let code) = action { throw IOError(call: call, path: path, code: code) }
        return action
    }

    private func checkWritable(_ call: String, _ code: Int32 = errnoBadDescriptor) throws(IOError) {
        if !canWrite { throw IOError(call: call, path: path, code: code) }
    }

    func size() throws(IOError) -> UInt64 {
        try look("fstat") { (machine) throws(IOError) in machine.disk.files[number].current.size }
    }

    func allocated() throws(IOError) -> UInt64 {
        try look("fstat") { (machine) throws(IOError) in
            UInt64(machine.disk.files[number].current.allocatedPages) * pageSize64
        }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(IOError) -> Int {
        try look("pread") { (machine) throws(IOError) in
            machine.reads += 1
            if isUncached {
                let unit = UInt64(machine.options.directAlignment)
                let address = UInt64(UInt(bitPattern: buffer.baseAddress))
                if (offset | UInt64(buffer.count) | address) % unit != 0 {
                    throw IOError(call: "pread", path: path, code: errnoInvalid)
                }
            }
            for bad in machine.badRanges where bad.path == path && (isUncached || !bad.onlyUncached) {
                if offset < bad.offset + bad.count && bad.offset < offset + UInt64(buffer.count) {
                    throw IOError(call: "pread", path: path, code: bad.code)
                }
            }
            if isUncached, let stale = machine.disk.files[number].stale {
                return stale.read(into: buffer, at: offset)
            }
            return machine.disk.files[number].current.read(into: buffer, at: offset)
        }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(IOError) {
        try checkWritable("pwrite")
        if bytes.count == 0 { return }
        try write(bytes, at: offset, "pwrite", try step(.write, "pwrite", offset: offset, count: UInt64(bytes.count)))
    }

    private func write(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ call: String, _ action: StepAction
    ) throws(IOError) {
        try look(call) { (machine) throws(IOError) in
            let sequence = machine.disk.takeSequence()
            var room = machine.disk.freePages
            var part = bytes
            switch action {
            case .lostWrite, .misdirectedWrite:
                var other: UInt64?
                if case .misdirectedWrite(let place) = action { other = place }
                machine.disk.change(number) {
                    $0.miswrite(bytes, at: offset, instead: other, sequence: sequence, room: &room)
                }
                return
            case .shortWrite(let count, _):
                part = UnsafeRawBufferPointer(rebasing: bytes[0..<min(max(count, 0), bytes.count)])
            default: break
            }
            let done = machine.disk.change(number) {
                $0.write(part, at: offset, sequence: sequence, room: &room)
            }
            if case .shortWrite(_, let code) = action { throw IOError(call: call, path: path, code: code) }
            if done < bytes.count { throw IOError(call: call, path: path, code: errnoNoSpace) }
        }
    }

    func write(parts: UnsafeBufferPointer<UnsafeRawBufferPointer>, at offset: UInt64) throws(IOError) {
        try checkWritable("pwritev")
        let count = parts.reduce(0) { $0 + $1.count }
        if count == 0 { return }
        let whole = ByteBuffer(count: count)
        var done = 0
        for part in parts where part.count > 0 {
            whole.part(done, part.count).copyMemory(from: part)
            done += part.count
        }
        try write(
            whole.readable, at: offset, "pwritev", try step(.write, "pwritev", offset: offset, count: UInt64(count)))
    }

    func syncData() throws(IOError) { try sync(.syncData, "fdatasync") }
    func sync() throws(IOError) { try sync(.sync, "fsync") }

    private func sync(_ kind: StepKind, _ call: String) throws(IOError) {
        if case .fail(let code) = host.take(kind, path) {
            host.machine.withLock { machine in
                if machine.isOff { return }
                let percent = machine.options.failedSyncKeepsPercent
                var survival = Survival(.units(percent: percent), seed: machine.generator.next())
                machine.disk.change(number) { $0.failSync(&survival, file: number) }
            }
            throw IOError(call: call, path: path, code: code)
        }
        try look(call) { (machine) throws(IOError) in machine.disk.change(number) { $0.makeDurable() } }
    }

    func punch(offset: UInt64, count: UInt64) throws(IOError) {
        if count == 0 { return }
        try checkWritable("fallocate")
        _ = try step(.punch, "fallocate", offset: offset, count: count)
        try look("fallocate") { (machine) throws(IOError) in
            let sequence = machine.disk.takeSequence()
            machine.disk.change(number) { $0.punch(offset: offset, count: count, sequence: sequence) }
        }
    }

    func reserve(offset: UInt64, count: UInt64) throws(IOError) {
        if count == 0 { return }
        try checkWritable("fallocate")
        _ = try step(.reserve, "fallocate", offset: offset, count: count)
        try look("fallocate") { (machine) throws(IOError) in
            let sequence = machine.disk.takeSequence()
            var room = machine.disk.freePages
            let isDone = machine.disk.change(number) {
                $0.reserve(offset: offset, count: count, sequence: sequence, room: &room)
            }
            if !isDone { throw IOError(call: "fallocate", path: path, code: errnoNoSpace) }
        }
    }

    func truncate(to size: UInt64) throws(IOError) {
        try checkWritable("ftruncate", errnoInvalid)
        _ = try step(.truncate, "ftruncate", offset: size)
        try look("ftruncate") { (machine) throws(IOError) in
            let sequence = machine.disk.takeSequence()
            machine.disk.change(number) { $0.truncate(to: size, sequence: sequence) }
        }
    }

    func nextData(from offset: UInt64) throws(IOError) -> UInt64? {
        try look("lseek") { (machine) throws(IOError) in machine.disk.files[number].current.nextData(from: offset) }
    }

    func nextHole(from offset: UInt64) throws(IOError) -> UInt64? {
        try look("lseek") { (machine) throws(IOError) in machine.disk.files[number].current.nextHole(from: offset) }
    }

    func lock() throws(IOError) {
        try checkWritable("fcntl")
        try look("fcntl") { (machine) throws(IOError) in
            if let holder = machine.locks[number], holder != handle {
                throw IOError(call: "fcntl", path: path, code: errnoAgain)
            }
            machine.locks[number] = handle
        }
    }

    func uncached() throws(IOError) -> any File {
        try look("open") { (_) throws(IOError) in }
        return SimulatedFile(path: path, number: number, host: host, canWrite: false, isUncached: true)
    }
}
