internal import HostIO
internal import Primitives

// The errno values of Linux that the double answers with.
let errnoNotFound: Int32 = 2
let errnoIO: Int32 = 5
let errnoBadDescriptor: Int32 = 9
let errnoAgain: Int32 = 11
let errnoExists: Int32 = 17
let errnoNotDirectory: Int32 = 20
let errnoIsDirectory: Int32 = 21
let errnoInvalid: Int32 = 22
let errnoNoSpace: Int32 = 28
let errnoNameTooLong: Int32 = 36
let errnoNotEmpty: Int32 = 39

/// Everything that lies on the simulated file system. A value: a copy is a picture of the moment.
struct Disk: Sendable {
    /// By number. A file that nothing leads to any more is emptied, and its number is not used again.
    var files: [FileNode] = []
    /// By number; 0 is the root.
    var directories: [DirectoryNode] = [DirectoryNode()]
    var capacityPages = 1 << 40
    /// Pages that others on the same file system hold.
    var consumedPages = 0
    /// Pages that the files hold.
    private(set) var usedPages = 0
    private var nextSequence: UInt64 = 0

    var freePages: Int { max(0, capacityPages - consumedPages - usedPages) }

    mutating func takeSequence() -> UInt64 {
        nextSequence += 1
        return nextSequence
    }

    /// Changes a file and keeps count of the pages.
    mutating func change<Result, Failure: Error>(
        _ file: Int, _ body: (inout FileNode) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let before = files[file].current.allocatedPages
        defer { usedPages += files[file].current.allocatedPages - before }
        return try body(&files[file])
    }

    // Names

    /// The components of a path; `.` stands for nothing.
    private static func components(_ path: String) -> [String] {
        path.split(separator: "/").map(String.init).filter { $0 != "." }
    }

    func entry(_ path: String) -> Entry? {
        var at = Entry.directory(0)
        for name in Self.components(path) {
            guard case .directory(let number) = at, let next = directories[number].current[name] else { return nil }
            at = next
        }
        return at
    }

    func directory(_ path: String) throws(IOError) -> Int {
        var at = 0
        for name in Self.components(path) {
            switch directories[at].current[name] {
            case .directory(let next): at = next
            case .file: throw IOError(call: "open", path: path, code: errnoNotDirectory)
            case nil: throw IOError(call: "open", path: path, code: errnoNotFound)
            }
        }
        return at
    }

    /// The directory that holds the last component, and that component.
    func parent(_ path: String) throws(IOError) -> (Int, String) {
        let names = Self.components(path)
        guard let last = names.last else { throw IOError(call: "mkdir", path: path, code: errnoExists) }
        return (try directory(names.dropLast().joined(separator: "/")), last)
    }

    mutating func createFile(_ name: String, in directory: Int) -> Int {
        files.append(FileNode())
        link(name, .file(files.count - 1), in: directory)
        return files.count - 1
    }

    mutating func createDirectory(_ name: String, in directory: Int) -> Int {
        directories.append(DirectoryNode())
        link(name, .directory(directories.count - 1), in: directory)
        return directories.count - 1
    }

    private mutating func link(_ name: String, _ entry: Entry, in directory: Int) {
        directories[directory].change(.link(name, entry), sequence: takeSequence())
    }

    mutating func unlink(_ name: String, in directory: Int) {
        directories[directory].change(.unlink(name), sequence: takeSequence())
    }

    mutating func rename(_ name: String, to other: String, in directory: Int) {
        directories[directory].change(.rename(name, to: other), sequence: takeSequence())
    }

    /// Gives back the pages of a file that neither a name nor an open handle holds. What a power cut may bring back
    /// stays until the directory is synced; only the room is given back here, as ext4 does.
    mutating func release(_ file: Int) {
        let isNamed = directories.contains { $0.current.values.contains(.file(file)) }
        if isNamed { return }
        let isReturning = directories.contains { directory in
            !directory.pending.isEmpty
                && (directory.durable.values.contains(.file(file))
                    || directory.pending.contains {
                        if case .link(_, let entry) = $0.kind { return entry == .file(file) }
                        return false
                    })
        }
        let pages = files[file].current.allocatedPages
        if isReturning {
            // The bytes must be there after a crash, so only the live content goes.
            files[file].current = Content()
            files[file].stale = nil
        } else {
            files[file] = FileNode()
        }
        usedPages -= pages
    }

    // Crash

    /// How many units a crash has to decide about.
    func pendingUnits() -> Int {
        var survival = Survival(.all, seed: 0)
        walk(&survival)
        return survival.units
    }

    private func walk(_ survival: inout Survival) {
        for number in directories.indices where !directories[number].pending.isEmpty {
            _ = directories[number].survivor(&survival, directory: number)
        }
        for number in files.indices where !files[number].pending.isEmpty {
            _ = files[number].survivor(&survival, file: number)
        }
    }

    /// The disk after a power cut: everything on it is durable, and what no name leads to is gone.
    func crashed(_ policy: CrashPolicy, seed: UInt64) -> Disk {
        var survival = Survival(rule(policy, seed: seed), seed: seed)
        var result = Disk()
        result.capacityPages = capacityPages
        result.consumedPages = consumedPages
        result.nextSequence = nextSequence
        result.directories = directories.indices.map { number in
            let names = directories[number].survivor(&survival, directory: number)
            return DirectoryNode(current: names, durable: names)
        }
        result.files = files.indices.map { number in
            let content = files[number].survivor(&survival, file: number)
            return FileNode(current: content, durable: content)
        }
        result.dropUnreachable()
        return result
    }

    private mutating func dropUnreachable() {
        var seenFiles: Set<Int> = []
        var seenDirectories: Set<Int> = [0]
        var open = [0]
        while let number = open.popLast() {
            for entry in directories[number].current.values {
                switch entry {
                case .file(let file): seenFiles.insert(file)
                case .directory(let next): if seenDirectories.insert(next).inserted { open.append(next) }
                }
            }
        }
        for number in directories.indices where !seenDirectories.contains(number) {
            directories[number] = DirectoryNode()
        }
        for number in files.indices where !seenFiles.contains(number) { files[number] = FileNode() }
        usedPages = files.reduce(0) { $0 + $1.current.allocatedPages }
    }

    private func rule(_ policy: CrashPolicy, seed: UInt64) -> Survival.Rule {
        switch policy {
        case .nothing: return .none
        case .everything: return .all
        case .units(let percent): return .units(percent: percent)
        case .operations(let percent): return .operations(percent: percent)
        case .files: return .files
        case .oneUnit: return .one(Int(seed % UInt64(max(pendingUnits(), 1))))
        case .allButOneUnit: return .allButOne(Int(seed % UInt64(max(pendingUnits(), 1))))
        case .prefix:
            let sequences = pendingSequences()
            let count = Int(seed % UInt64(sequences.count + 1))
            return .before(count < sequences.count ? sequences[count].sequence : .max, units: 0)
        case .torn:
            let writes = pendingSequences().filter { $0.sectors > 0 }
            if writes.isEmpty { return .all }
            // Seed 0 tears the newest write: that is the one that a power cut meets most.
            let chosen = writes[writes.count - 1 - Int(seed % UInt64(writes.count))]
            let sectors = Int(seed / UInt64(writes.count) % UInt64(chosen.sectors))
            return .before(chosen.sequence, units: sectors)
        }
    }

    /// The pending operations in order, with the sectors that each wrote.
    private func pendingSequences() -> [(sequence: UInt64, sectors: Int)] {
        var found: [(sequence: UInt64, sectors: Int)] = []
        for directory in directories { found += directory.pending.map { ($0.sequence, 0) } }
        for file in files {
            for change in file.pending {
                var sectors = 0
                if case .write(let pieces, _) = change.kind {
                    sectors = pieces.reduce(0) { $0 + $1.sectors.nonzeroBitCount }
                }
                found.append((change.sequence, sectors))
            }
        }
        return found.sorted { $0.sequence < $1.sequence }
    }
}
