internal import Format
public import HostIO
public import Primitives

extension Replica {
    /// What a new replica is made for.
    public struct Specification: Sendable {
        public var volume: Identifier
        /// Bytes of the volume.
        public var size: UInt64
        /// Bytes of the journal; nil: by the volume's size.
        public var journalSize: UInt64?
        public var labels: [String: String]

        public init(volume: Identifier, size: UInt64, journalSize: UInt64? = nil, labels: [String: String] = [:]) {
            self.volume = volume
            self.size = size
            self.journalSize = journalSize
            self.labels = labels
        }
    }

    /// Makes a replica in an empty directory.
    ///
    /// 1. The journal, written once with zeros, so that later writes to it allocate nothing; the reserve; the first
    ///    head; the chain document. All fsynced.
    /// 2. fsync of the directories.
    /// 3. `super`, both slots, fsync, fsync of the directory: from here on it is a replica. A crash before leaves a
    ///    directory without `super`, which is none.
    /// - Throws: `invalid`, `exists` if the directory is not empty, `noSpace`, `io`.
    public static func create(
        in directory: any Directory, _ specification: Specification, host: any Host
    ) throws(StoreError) {
        let size = specification.size
        guard size >= FormatLimit.volumeSizeMin, size <= FormatLimit.volumeSize, size % blockSize64 == 0 else {
            throw .invalid(
                "a size of \(size) bytes: it must be a multiple of \(blockSize), from \(blockSize) to 64 TiB")
        }
        let journalSize = specification.journalSize ?? FormatLimit.journalSize(forVolume: size)
        guard journalSize >= FormatLimit.journalSizeMin, journalSize <= FormatLimit.journalSizeMax,
            journalSize % blockSize64 == 0
        else {
            throw .invalid(
                "a journal of \(journalSize) bytes: it must be a multiple of \(blockSize), from 4 MiB to 4 GiB")
        }
        if let first = try calling({ () throws(IOError) in try directory.list() }).first {
            throw .exists("\(directory.path)/\(first.name): the directory is not empty; it")
        }
        do throws(StoreError) {
            try calling { () throws(IOError) in
                try fill(directory, specification, journalSize: journalSize, host: host)
            }
        } catch {
            // What was made so far is taken away again: the directory was empty before.
            clear(directory)
            throw error
        }
    }

    private static func fill(
        _ directory: any Directory, _ specification: Specification, journalSize: UInt64, host: any Host
    ) throws(IOError) {
        try directory.createDirectory(ReplicaFiles.layers)
        let layers = try directory.openDirectory(ReplicaFiles.layers)
        let chain = ChainStore(directory: directory, layers: layers)
        try directory.open(ReplicaFiles.lock, .create).sync()

        let journal = try directory.open(ReplicaFiles.journal, .create)
        let zeros = ByteBuffer(count: 1 << 20)
        var offset: UInt64 = 0
        while offset < journalSize {
            let count = Int(min(UInt64(zeros.count), journalSize - offset))
            try journal.write(UnsafeRawBufferPointer(zeros.part(0, count)), at: offset)
            offset += UInt64(count)
        }
        try journal.sync()

        let ballastSize = FormatLimit.ballastSize(forJournal: journalSize)
        let ballast = try directory.open(ReplicaFiles.ballast, .create)
        try ballast.truncate(to: ballastSize)
        try ballast.reserve(offset: 0, count: ballastSize)
        try ballast.sync()

        let head = host.newIdentifier()
        _ = try chain.createLayer(head, size: specification.size)
        let document = ChainDocument(
            volume: specification.volume.description, number: 1, size: specification.size, head: head.description,
            layers: [
                ChainDocument.Layer(
                    uuid: head.description, parent: nil, snapshot: nil, root: "0", present: 0, removed: false)
            ], labels: specification.labels)
        let hash = try chain.write(document)
        var slot = SuperSlot(
            volume: specification.volume, replica: host.newIdentifier(), generation: host.newIdentifier(),
            volumeSize: specification.size, journalSize: journalSize, headLayer: head, chainNumber: 1, chainHash: hash,
            createdSeconds: host.wallClock().seconds, ballastSize: ballastSize)
        slot.flags = .clean
        slot.sequence = 1
        _ = try SuperStore.create(in: directory, slot)
        try directory.sync()
    }

    private static func clear(_ directory: any Directory) {
        if let layers = try? directory.openDirectory(ReplicaFiles.layers) {
            for entry in (try? layers.list()) ?? [] { try? layers.remove(entry.name) }
            try? directory.removeDirectory(ReplicaFiles.layers)
        }
        for entry in (try? directory.list()) ?? [] where entry.kind == .file { try? directory.remove(entry.name) }
    }
}
