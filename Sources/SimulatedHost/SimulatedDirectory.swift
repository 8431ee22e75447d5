internal import HostIO
internal import Primitives

/// A directory of a simulated host.
final class SimulatedDirectory: Directory {
    let path: String
    private let number: Int
    private let host: SimulatedHost

    init(path: String, number: Int, host: SimulatedHost) {
        self.path = path
        self.number = number
        self.host = host
    }

    private func full(_ name: String) -> String { path.hasSuffix("/") ? path + name : path + "/" + name }

    private func check(_ name: String) throws(IOError) {
        if name.isEmpty || name == "." || name == ".." || name.utf8.contains(UInt8(ascii: "/")) {
            throw IOError(call: "openat", path: full(name), code: errnoInvalid)
        }
        if name.utf8.count > 255 { throw IOError(call: "openat", path: full(name), code: errnoNameTooLong) }
    }

    /// Counts a step, then changes the disk unless the step failed or the machine is off.
    private func step<Result>(
        _ kind: StepKind, _ call: String, _ name: String,
        _ body: (inout SimulatedHost.Machine) throws(IOError) -> Result
    ) throws(IOError) -> Result {
        let target = name.isEmpty ? path : full(name)
        if case .fail(let code) = host.take(kind, target) { throw IOError(call: call, path: target, code: code) }
        return try host.machine.withLock(body)
    }

    private func look<Result>(
        _ call: String, _ body: (inout SimulatedHost.Machine) throws(IOError) -> Result
    ) throws(IOError) -> Result {
        try host.machine.withLock { (machine) throws(IOError) in
            if machine.isOff { throw IOError(call: call, path: path, code: SimulatedHost.machineOff) }
            return try body(&machine)
        }
    }

    func open(_ name: String, _ access: FileAccess) throws(IOError) -> any File {
        try check(name)
        let number = self.number
        let file: Int
        if access == .create {
            file = try step(.create, "openat", name) { (machine) throws(IOError) in
                if machine.disk.directories[number].current[name] != nil {
                    throw IOError(call: "openat", path: full(name), code: errnoExists)
                }
                return machine.disk.createFile(name, in: number)
            }
        } else {
            file = try look("openat") { (machine) throws(IOError) in
                switch machine.disk.directories[number].current[name] {
                case .file(let file): return file
                case .directory:
                    let code = access == .readWrite ? errnoIsDirectory : errnoInvalid
                    throw IOError(call: "openat", path: full(name), code: code)
                case nil: throw IOError(call: "openat", path: full(name), code: errnoNotFound)
                }
            }
        }
        return SimulatedFile(path: full(name), number: file, host: host, canWrite: access != .readOnly)
    }

    func openDirectory(_ name: String) throws(IOError) -> any Directory {
        try check(name)
        let number = try look("openat") { (machine) throws(IOError) in
            switch machine.disk.directories[self.number].current[name] {
            case .directory(let found): return found
            case .file: throw IOError(call: "openat", path: full(name), code: errnoNotDirectory)
            case nil: throw IOError(call: "openat", path: full(name), code: errnoNotFound)
            }
        }
        return SimulatedDirectory(path: full(name), number: number, host: host)
    }

    func createDirectory(_ name: String) throws(IOError) {
        try check(name)
        try step(.createDirectory, "mkdirat", name) { (machine) throws(IOError) in
            if machine.disk.directories[number].current[name] != nil {
                throw IOError(call: "mkdirat", path: full(name), code: errnoExists)
            }
            _ = machine.disk.createDirectory(name, in: number)
        }
    }

    func remove(_ name: String) throws(IOError) {
        try check(name)
        try step(.remove, "unlinkat", name) { (machine) throws(IOError) in
            switch machine.disk.directories[number].current[name] {
            case .file(let file):
                machine.disk.unlink(name, in: number)
                if machine.openHandles[file, default: 0] == 0 { machine.disk.release(file) }
            case .directory: throw IOError(call: "unlinkat", path: full(name), code: errnoIsDirectory)
            case nil: throw IOError(call: "unlinkat", path: full(name), code: errnoNotFound)
            }
        }
    }

    func removeDirectory(_ name: String) throws(IOError) {
        try check(name)
        try step(.removeDirectory, "unlinkat", name) { (machine) throws(IOError) in
            switch machine.disk.directories[number].current[name] {
            case .directory(let found):
                if !machine.disk.directories[found].current.isEmpty {
                    throw IOError(call: "unlinkat", path: full(name), code: errnoNotEmpty)
                }
                machine.disk.unlink(name, in: number)
            case .file: throw IOError(call: "unlinkat", path: full(name), code: errnoNotDirectory)
            case nil: throw IOError(call: "unlinkat", path: full(name), code: errnoNotFound)
            }
        }
    }

    func rename(_ name: String, to newName: String) throws(IOError) {
        try check(name)
        try check(newName)
        try step(.rename, "renameat", name) { (machine) throws(IOError) in
            let names = machine.disk.directories[number].current
            guard let from = names[name] else {
                throw IOError(call: "renameat", path: full(name), code: errnoNotFound)
            }
            let target = names[newName]
            if from == target { return }
            switch (from, target) {
            case (.file, .directory): throw IOError(call: "renameat", path: full(name), code: errnoIsDirectory)
            case (.directory, .file): throw IOError(call: "renameat", path: full(name), code: errnoNotDirectory)
            case (.directory, .directory(let found)) where !machine.disk.directories[found].current.isEmpty:
                throw IOError(call: "renameat", path: full(name), code: errnoNotEmpty)
            default: break
            }
            machine.disk.rename(name, to: newName, in: number)
            if case .file(let file)? = target, machine.openHandles[file, default: 0] == 0 {
                machine.disk.release(file)
            }
        }
    }

    func list() throws(IOError) -> [DirectoryEntry] {
        try look("openat") { (machine) throws(IOError) in
            machine.disk.directories[number].current
                .map { name, entry in
                    if case .file = entry { return DirectoryEntry(name: name, kind: .file) }
                    return DirectoryEntry(name: name, kind: .directory)
                }
                .sorted { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
        }
    }

    func sync() throws(IOError) {
        try step(.syncDirectory, "fsync", "") { (machine) throws(IOError) in
            machine.disk.directories[number].makeDurable()
        }
    }

    func space() throws(IOError) -> Space {
        try look("fstatfs") { (machine) throws(IOError) in
            Space(
                available: UInt64(machine.disk.freePages) * pageSize64,
                total: UInt64(machine.disk.capacityPages) * pageSize64)
        }
    }
}
