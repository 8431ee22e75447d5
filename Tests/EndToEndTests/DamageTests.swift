import CEndToEnd
import Foundation
import Testing

extension EndToEnd {
    /// One flipped bit in one file: the damaged blocks give EIO and nothing else is affected, or a second copy serves.
    @Suite(.needsMount) struct Damage {
        /// A volume of 1 MiB with two snapshots, made once, copied for each flip. By blocks:
        ///
        ///              0        50        100       150       200     256
        ///     s1       a a a a a a a a a a
        ///     s2                b b b b b b b b b b
        ///     head                        c c c c c c c c c c
        private final class Sample {
            let scratch: Scratch
            static let blocks = 256
            /// What each view holds: nil is the live volume.
            var views: [(snapshot: String?, bytes: [UInt8])] = []
            private var copies = 0

            /// - Parameter isDirty: the daemon is killed, so that the journal holds everything since the snapshots.
            init(in scratch: Scratch, isDirty: Bool) throws {
                self.scratch = scratch
                let volume = try Volume(in: scratch, size: "1M")
                var random = Random(seed: 11)
                var bytes = [UInt8](repeating: 0, count: Self.blocks * 4096)
                try volume.mount()
                do {
                    let file = try UserFile(volume.file)
                    func write(_ range: Range<Int>) throws {
                        for block in range {
                            let data = random.bytes(4096)
                            try #require(file.write(data, at: block * 4096) == 4096)
                            bytes.replaceSubrange(block * 4096..<(block + 1) * 4096, with: data)
                            if isDirty, block % 10 == 9 { try #require(file.syncData() == 0) }
                        }
                        try #require(file.syncData() == 0)
                    }
                    try write(0..<100)
                    try volume.snapshot("s1")
                    views.append(("s1", bytes))
                    try write(50..<150)
                    try volume.snapshot("s2")
                    views.append(("s2", bytes))
                    try write(100..<200)
                    views.append((nil, bytes))
                }
                if isDirty { try volume.killDaemon() } else { try volume.unmount() }
            }

            /// A copy to damage.
            func copy() throws -> Volume {
                copies += 1
                let name = "copy-\(copies)"
                try scratch.must("cp", "-a", "--sparse=always", scratch("vol"), scratch(name))
                return try Volume(in: scratch, existing: name)
            }

            func discard(_ volume: Volume) throws { try scratch.must("rm", "-rf", volume.path, volume.mountPoint) }
        }

        /// The blocks of each view that give EIO. Anything else that is not what the view holds is a failure.
        private func badBlocks(_ volume: Volume, _ sample: Sample, _ what: String) throws -> [String: Set<Int>] {
            var bad: [String: Set<Int>] = [:]
            for view in sample.views {
                let name = view.snapshot ?? "head"
                let path = view.snapshot.map(volume.snapshotFile) ?? volume.file
                let file = try UserFile(path, O_RDONLY, direct: true)
                var wrong: [Int] = []
                for block in 0..<Sample.blocks {
                    let expected = Array(view.bytes[block * 4096..<(block + 1) * 4096])
                    if let found = file.read(4096, at: block * 4096) {
                        if found.count != 4096 || firstDifference(found, expected) != nil { wrong.append(block) }
                    } else {
                        #expect(file.lastError == EIO, "\(what): block \(block) of \(name)")
                        bad[name, default: []].insert(block)
                    }
                }
                #expect(wrong.isEmpty, "\(what): blocks \(wrong) of \(name) are silently wrong")
                // A large read over a bad block: an error or what is right, never something else.
                if let whole = file.read(Sample.blocks * 4096, at: 0) {
                    #expect(firstDifference(whole, view.bytes) == nil, "\(what): \(name) in one read")
                }
            }
            return bad
        }

        /// The file of the layer of a snapshot, or of the head.
        private func layer(_ volume: Volume, _ snapshot: String?, _ suffix: String) throws -> String {
            let replica = try volume.replica()
            let number = try FileManager.default.contentsOfDirectory(atPath: replica)
                .compactMap { name in
                    name.hasPrefix("chain.") && !name.contains("copy") ? Int(name.split(separator: ".")[1]) : nil
                }.max()
            let data = try Data(contentsOf: URL(fileURLWithPath: "\(replica)/chain.\(try #require(number)).json"))
            let chain = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
            let layers = try #require(chain["layers"] as? [[String: Any]])
            let found = layers.first { layer in
                guard let snapshot else { return layer["uuid"] as? String == chain["head"] as? String }
                return (layer["snapshot"] as? [String: Any])?["name"] as? String == snapshot
            }
            return "\(replica)/layers/\(try #require(found?["uuid"] as? String))\(suffix)"
        }

        private func expectVerify(_ volume: Volume, _ codes: Set<Int32>, naming words: [String] = [], _ what: String)
            throws
        {
            let result = try volume.attempt(["verify", volume.path])
            #expect(codes.contains(result.code), "\(what): \(result)")
            for word in words {
                #expect((result.output + result.errors).contains(word), "\(what): no \"\(word)\" in \(result)")
            }
        }

        struct LayerFlip: CustomTestStringConvertible {
            var snapshot: String?
            var block: Int
            /// The views in which the block is seen.
            var seen: Set<String>
            var testDescription: String { "block \(block) of \(snapshot ?? "the head")" }
        }
        static let layerFlips = [
            LayerFlip(snapshot: "s1", block: 10, seen: ["s1", "s2", "head"]),
            LayerFlip(snapshot: "s1", block: 60, seen: ["s1"]),
            LayerFlip(snapshot: "s2", block: 75, seen: ["s2", "head"]),
            LayerFlip(snapshot: "s2", block: 120, seen: ["s2"]),
            LayerFlip(snapshot: nil, block: 150, seen: ["head"]),
        ]

        @Test func `a flipped bit in a layer gives EIO for its block where it is seen, and verify names it`() throws {
            try Scratch.use { scratch in
                let sample = try Sample(in: scratch, isDirty: false)
                for flip in Self.layerFlips {
                    let volume = try sample.copy()
                    let path = try layer(volume, flip.snapshot, ".img")
                    try flipBit(path, at: flip.block * 4096 + 77, bit: flip.block)
                    let what = flip.testDescription
                    let name = String(path.split(separator: "/").last ?? "")
                    try expectVerify(volume, [2], naming: [name, "\(flip.block * 4096)+4096"], what)
                    try volume.mounted {
                        let bad = try badBlocks(volume, sample, what)
                        #expect(
                            bad == Dictionary(uniqueKeysWithValues: flip.seen.map { ($0, [flip.block]) }),
                            "\(what): \(bad)")
                        // Overwritten as a whole, the block is good again; its neighbours were never bad.
                        if flip.seen.contains("head") {
                            let file = try UserFile(volume.file)
                            #expect(
                                file.write([1, 2, 3], at: flip.block * 4096 + 5) == -Int(EIO),
                                "\(what): a part of a bad block")
                            let data = [UInt8](repeating: 0x5A, count: 4096)
                            #expect(file.write(data, at: flip.block * 4096) == 4096)
                            #expect(file.read(4096, at: flip.block * 4096) == data)
                        }
                    }
                    try sample.discard(volume)
                }
            }
        }

        @Test func `an exchanged, an older and a vanished block are as bad as a flipped bit`() throws {
            try Scratch.use { scratch in
                let sample = try Sample(in: scratch, isDirty: false)
                func block(_ path: String, _ number: Int) throws -> [UInt8] {
                    try #require(try UserFile(path, O_RDONLY).read(4096, at: number * 4096))
                }
                func put(_ bytes: [UInt8], _ path: String, _ number: Int) throws {
                    try #require(try UserFile(path).write(bytes, at: number * 4096) == 4096)
                }
                let exchanged = try sample.copy()
                let s1 = try layer(exchanged, "s1", ".img")
                let (ten, eleven) = (try block(s1, 10), try block(s1, 11))
                try put(eleven, s1, 10)
                try put(ten, s1, 11)
                let older = try sample.copy()
                try put(try block(try layer(older, "s1", ".img"), 60), try layer(older, "s2", ".img"), 60)
                let vanished = try sample.copy()
                try #require(try UserFile(try layer(vanished, "s2", ".img")).punch(60 * 4096, 4096) == 0)
                for (volume, views, blocks, what) in [
                    (exchanged, ["s1", "s2", "head"], Set([10, 11]), "exchanged"),
                    (older, ["s2", "head"], [60], "older"),
                    (vanished, ["s2", "head"], [60], "vanished"),
                ] {
                    try expectVerify(volume, [2], what)
                    try volume.mounted {
                        let bad = try badBlocks(volume, sample, what)
                        #expect(bad == Dictionary(uniqueKeysWithValues: views.map { ($0, blocks) }), "\(what): \(bad)")
                    }
                }
            }
        }

        /// Files by their part, with the places in them that hold something.
        private func places(_ path: String, _ random: inout Random, count: Int) throws -> [Int] {
            let file = try UserFile(path, O_RDONLY)
            let bytes = try #require(file.read(file.size, at: 0))
            let blocks = stride(from: 0, to: bytes.count, by: 4096).filter { start in
                bytes[start..<min(start + 4096, bytes.count)].contains { $0 != 0 }
            }
            guard !blocks.isEmpty else { return [] }
            return (0..<count).map { _ in
                let start = blocks[random.below(blocks.count)]
                return start + random.below(min(4096, bytes.count - start))
            }
        }

        @Test
        func
            `a flipped bit in a super slot, a chain file, a manifest or a map is survived, or gives EIO, never a wrong byte`()
            throws
        {
            try Scratch.use { scratch in
                let sample = try Sample(in: scratch, isDirty: false)
                var random = Random(seed: 12)
                let listing = try scratch.must("find", scratch("vol"), "-type", "f", "-printf", "%P\\n").split(
                    separator: "\n"
                ).map(String.init)
                var noticed: Set<String> = []
                for path in listing.sorted() {
                    let name = String(path.split(separator: "/").last ?? "")
                    let kind: String
                    var count = 4 * Machine.scale
                    switch name {
                    case "super": kind = "super"; count = 8 * Machine.scale
                    case _ where name.hasPrefix("chain."): kind = "chain"
                    case _ where name.hasSuffix(".sums"): kind = "map"; count = 8 * Machine.scale
                    case _ where name.hasSuffix(".json") && path.contains("layers/"): kind = "manifest"
                    default: continue
                    }
                    for place in try places(scratch("vol/" + path), &random, count: count) {
                        let volume = try sample.copy()
                        let what = "\(name), byte \(place)"
                        try flipBit(volume.path + "/" + path, at: place, bit: random.below(8))
                        let result = try volume.attempt(["verify", volume.path])
                        #expect([0, 2, 3].contains(result.code), "\(what): \(result)")
                        if result.code != 0 {
                            noticed.insert(kind)
                            #expect((result.output + result.errors).contains(name), "\(what): \(result)")
                        }
                        try volume.mounted {
                            let bad = try badBlocks(volume, sample, what)
                            // Everything but a map has a second copy of all that it says; a map's page covers 504 blocks.
                            if kind != "map" { #expect(bad.isEmpty, "\(what): \(bad)") }
                            if !bad.isEmpty { #expect(result.code == 2, "\(what): \(bad), and verify said \(result)") }
                        }
                        try sample.discard(volume)
                    }
                }
                #expect(
                    noticed.isSuperset(of: ["super", "chain", "map", "manifest"]), "verify noticed only \(noticed)")
            }
        }

        @Test func `a flipped bit in a journal that was not drained gives EIO or nothing, never an old byte`() throws {
            try Scratch.use { scratch in
                let sample = try Sample(in: scratch, isDirty: true)
                let journal = String(
                    try scratch.must("find", scratch("vol"), "-name", "journal", "-printf", "%P").trimmingCharacters(
                        in: .whitespacesAndNewlines))
                var random = Random(seed: 13)
                let used = try places(scratch("vol/" + journal), &random, count: 400)
                let end = try #require(used.max())
                // The end of the journal cannot be told from a torn tail; what stands before it was flushed, and later
                // records prove it.
                for place in used.filter({ $0 < end * 3 / 5 }).prefix(24 * Machine.scale) {
                    let volume = try sample.copy()
                    let what = "journal, byte \(place)"
                    try flipBit(volume.path + "/" + journal, at: place, bit: random.below(8))
                    try volume.mount()
                    let bad = try badBlocks(volume, sample, what)
                    #expect(bad.values.allSatisfy { $0.count <= 1 }, "\(what): \(bad)")
                    try volume.unmount()
                    if !bad.isEmpty { try expectVerify(volume, [2], what) }
                    try sample.discard(volume)
                }
            }
        }

        @Test func `without any super slot the replica is refused in one line, and nothing is changed`() throws {
            try Scratch.use { scratch in
                let sample = try Sample(in: scratch, isDirty: false)
                let volume = try sample.copy()
                let replica = try volume.replica()
                let path = replica + "/super"
                try flipBit(path, at: 100)
                try flipBit(path, at: 4196)
                let before = try scratch.must(
                    "sh", "-c", "cd \"$1\" && find . -type f -exec sha256sum {} + | sort", "sh", replica)
                let result = try volume.attempt(["mount", volume.path, volume.mountPoint])
                #expect(result.code == 2 || result.code == 1, "\(result)")
                #expect(result.errorLines.count == 1 && result.errors.contains("super"), "\(result)")
                let after = try scratch.must(
                    "sh", "-c", "cd \"$1\" && find . -type f -exec sha256sum {} + | sort", "sh", replica)
                #expect(before == after)
            }
        }
    }
}
