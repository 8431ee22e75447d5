import Format
import HostIO
import Primitives

/// What the files of the replica at `path` say, each structure with whether it verifies. Nothing is written or locked.
func inspectReplica(_ path: String, host: any Host) throws(ToolError) -> JSON {
    let directory = try duringIO("cannot inspect \(path)") { () throws(IOError) in try host.openDirectory(path) }
    let inspection = Inspection(directory)
    let (slots, newest) = inspection.superSlots()
    var document: JSON = ["path": .string(path), "super": slots]
    document = document.adding("chain", inspection.chain(newest)).adding(
        "journal", JournalInspection.json(directory, newest)
    )
    .adding("layers", inspection.layers()).adding("files", inspection.files())
    return document
}

private struct Inspection {
    /// More of a map than this is not read: it is about a damaged byte in a small place, not about all of a large one.
    private static let mapBytesLimit: UInt64 = 64 << 20

    let directory: any Directory

    init(_ directory: any Directory) { self.directory = directory }

    // MARK: super

    /// Both slots, and the newest that verifies.
    func superSlots() -> (JSON, SuperSlot?) {
        var items: [JSON] = []
        var newest: SuperSlot?
        let page = ByteBuffer(count: SuperSlot.byteCount)
        for number in 0..<SuperSlot.slotCount {
            do {
                let file = try directory.open("super", .readOnly)
                try file.readPadded(into: page.bytes, at: UInt64(number * SuperSlot.byteCount))
                let slot = try SuperSlot(decoding: page.readable)
                if slot.sequence >= newest?.sequence ?? 0 { newest = slot }
                items.append(json(slot, number))
            } catch {
                items.append(["slot": JSON(number), "state": .string(problem(error))])
            }
        }
        return (.array(items), newest)
    }

    private func json(_ slot: SuperSlot, _ number: Int) -> JSON {
        var flags: [JSON] = []
        if slot.flags.contains(.clean) { flags.append("clean") }
        if slot.flags.contains(.failed) { flags.append("failed") }
        if slot.flags.contains(.full) { flags.append("full") }
        var document: JSON = [
            "slot": JSON(number), "state": "good", "sequence": JSON(slot.sequence), "flags": .array(flags),
            "volume": .string(slot.volume.description), "replica": .string(slot.replica.description),
            "generation": .string(slot.generation.description), "volume_size": JSON(slot.volumeSize),
            "checkpoint_revision": JSON(slot.checkpointRevision), "flushed_revision": JSON(slot.flushedRevision),
            "group_flushed_revision": JSON(slot.groupFlushedRevision),
            "history_hash": .string(slot.historyHash.description),
            "journal_size": JSON(slot.journalSize), "journal_tail": JSON(slot.tailOffset),
            "journal_sequence": JSON(slot.tailSequence), "head_layer": .string(slot.headLayer.description),
            "head_root": .string(hexadecimal(slot.headRoot)), "head_blocks": JSON(slot.headPresent),
            "chain": JSON(slot.chainNumber), "chain_hash": .string(slot.chainHash.description),
            "ballast_size": JSON(slot.ballastSize),
            "created": .string(WallTime(seconds: slot.createdSeconds, nanoseconds: 0).rfc3339),
        ]
        if let failure = slot.failure {
            document = document.adding(
                "failure",
                [
                    "errno": .integer(Int64(failure.code)), "error": .string(errorText(failure.code)),
                    "text": .string(failure.text), "revision": JSON(failure.revision), "block": JSON(failure.block),
                    "time": .string(WallTime(seconds: failure.seconds, nanoseconds: 0).rfc3339),
                ])
        }
        return document
    }

    // MARK: chain

    /// The chain document that the super names, from whichever copy verifies.
    func chain(_ slot: SuperSlot?) -> JSON {
        guard let slot else { return ["state": "no super slot verifies, so none is named"] }
        var copies: [JSON] = []
        var found: ChainDocument?
        for name in [ChainDocument.fileName(slot.chainNumber), ChainDocument.copyName(slot.chainNumber)] {
            do {
                let bytes = try directory.open(name, .readOnly).readAll(limit: FormatLimit.chainDocumentBytes)
                guard bytes.withUnsafeBytes({ hash128($0) }) == slot.chainHash else {
                    copies.append(["file": .string(name), "state": "does not match the hash in the super"])
                    continue
                }
                let document = try ChainDocument(decoding: bytes)
                found = found ?? document
                copies.append(["file": .string(name), "state": "good"])
            } catch {
                copies.append(["file": .string(name), "state": .string(problem(error))])
            }
        }
        var result: JSON = ["number": JSON(slot.chainNumber), "copies": .array(copies)]
        guard let found else { return result }
        result = result.adding("size", JSON(found.size)).adding("head", .string(found.head))
            .adding("labels", JSON(found.labels))
        return result.adding("layers", .array(found.layers.map(json)))
    }

    private func json(_ layer: ChainDocument.Layer) -> JSON {
        var document: JSON = [
            "uuid": .string(layer.uuid), "parent": JSON(layer.parent), "root": .string(layer.root),
            "blocks": JSON(layer.present), "removed": .bool(layer.removed),
        ]
        if let snapshot = layer.snapshot {
            let time = WallTime(seconds: snapshot.createdSeconds, nanoseconds: snapshot.createdNanoseconds)
            document = document.adding(
                "snapshot",
                [
                    "name": .string(snapshot.name), "created": .string(time.rfc3339), "labels": JSON(snapshot.labels),
                    "protected": .bool(snapshot.protected), "revision": JSON(snapshot.revision),
                    "history_hash": .string(snapshot.historyHash), "size": JSON(snapshot.size),
                ])
        }
        return document
    }

    // MARK: layers

    /// Each layer's files: sizes, the manifest, and the pages of its map.
    func layers() -> JSON {
        guard let layers = try? directory.openDirectory("layers"), let entries = try? layers.list() else {
            return [["state": "the directory layers cannot be read"]]
        }
        let identifiers = Set(entries.compactMap { $0.name.split(separator: ".").first.map(String.init) })
        return .array(identifiers.sorted().map { layer($0, layers) })
    }

    private func layer(_ identifier: String, _ layers: any Directory) -> JSON {
        var document: JSON = ["uuid": .string(identifier)]
        if let image = try? layers.open(identifier + ".img", .readOnly) {
            document = document.adding(
                "image", ["size": JSON((try? image.size()) ?? 0), "allocated": JSON((try? image.allocated()) ?? 0)])
        } else {
            document = document.adding("image", "missing")
        }
        document = document.adding("map", map(identifier, layers))
        let manifest: JSON
        do {
            let bytes = try layers.open(identifier + ".json", .readOnly).readAll(limit: FormatLimit.manifestBytes)
            let found = try LayerManifest(decoding: bytes)
            manifest = [
                "state": "good", "snapshot": JSON(found.layer.snapshot?.name), "root": .string(found.layer.root),
            ]
        } catch {
            manifest = ["state": .string(problem(error))]
        }
        return document.adding("manifest", manifest)
    }

    private func map(_ identifier: String, _ layers: any Directory) -> JSON {
        guard let layer = Identifier(identifier), let file = try? layers.open(identifier + ".sums", .readOnly) else {
            return ["state": "missing"]
        }
        let page = ByteBuffer(count: MapGeometry.pageBytes)
        var good = [0, 0, 0, 0]
        var bad: [JSON] = []
        var read: UInt64 = 0
        var offset: UInt64 = 0
        do {
            while let data = try file.nextData(from: offset), read < Inspection.mapBytesLimit {
                offset = roundedDown(data, to: 4096)
                try file.readPadded(into: page.bytes, at: offset)
                read += 4096
                defer { offset += 4096 }
                if page.readable.isZero { continue }
                let level = Int(page.bytes[6])
                let index = page.readable.integer(at: 8, as: UInt64.self)
                let isInPlace =
                    level <= MapGeometry.rootLevel && index < 1 << 36
                    && (0...1).contains { MapGeometry.offset(level: level, index: index, slot: $0) == offset }
                if isInPlace, (try? MapNode(decoding: page.bytes, level: level, index: index, layer: layer)) != nil {
                    good[level] += 1
                } else if bad.count < 100 {
                    bad.append(JSON(offset))
                }
            }
        } catch {
            return ["state": .string(problem(error))]
        }
        return [
            "state": bad.isEmpty ? "good" : "some pages do not verify",
            "good_pages": [
                "leaves": JSON(good[0]), "level_1": JSON(good[1]), "level_2": JSON(good[2]), "roots": JSON(good[3]),
            ],
            "bad_pages_at": .array(bad), "read_bytes": JSON(read), "complete": .bool(read < Inspection.mapBytesLimit),
        ]
    }

    // MARK: files

    func files() -> JSON {
        let entries = (try? directory.list()) ?? []
        return .array(
            entries.map { entry in
                guard entry.kind == .file, let file = try? directory.open(entry.name, .readOnly) else {
                    return ["name": .string(entry.name), "kind": entry.kind == .directory ? "directory" : "other"]
                }
                return [
                    "name": .string(entry.name), "kind": "file", "size": JSON((try? file.size()) ?? 0),
                    "allocated": JSON((try? file.allocated()) ?? 0),
                ]
            })
    }
}

/// What is wrong, for a line of the inspection.
func problem(_ error: any Error) -> String {
    if let error = error as? IOError { return error.isNotFound ? "missing" : error.reason }
    if let error = error as? FormatError {
        switch error.cause {
        case .notThis: return "empty: \(error.what)"
        case .newer: return "newer: \(error.what)"
        case .damaged: return "damaged: \(error.what)"
        }
    }
    return "\(error)"
}
