import Foundation
import Testing

extension EndToEnd {
    /// The files below a replica, looked at without the store.
    @Suite(.needsMount) struct LayerFiles {
        private func readLayers(_ volume: Volume, _ snapshot: String?, _ scratch: Scratch) throws -> String {
            let out = scratch.newPath("raw")
            let words = [packageRoot + "/tools/read-layers", try volume.replica()] + (snapshot.map { [$0] } ?? [])
            let result = try Running(["sh", "-c", "exec \"$@\" > \"$0\"", out] + words, in: scratch).wait()
            guard result.succeeded else { throw HarnessError(result.description) }
            return out
        }

        @Test(arguments: 1...UInt64(3 * Machine.scale))
        func `after a clean unmount the raw layers are the volume and each snapshot`(seed: UInt64) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "8M")
                var random = Random(seed: seed)
                var copies: [(name: String, path: String)] = []
                let live = scratch("copy")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    for round in 0..<6 {
                        for _ in 0..<40 {
                            let length = 1 + random.below(random.once(in: 8) ? 600_000 : 9000)
                            let offset = random.below((8 << 20) - length)
                            switch random.below(5) {
                            // Zeros are data too: over an ancestor they must not become a hole.
                            case 0: try #require(file.write([UInt8](repeating: 0, count: length), at: offset) == length)
                            case 1: try #require(file.punch(offset, length) == 0)
                            case 2: try #require(file.zeroRange(offset, length) == 0)
                            default: try #require(file.write(random.bytes(length), at: offset) == length)
                            }
                        }
                        if round < 5 {
                            try #require(file.syncData() == 0)
                            try volume.snapshot("s\(round)")
                            let copy = scratch("copy-s\(round)")
                            try scratch.must("cp", volume.snapshotFile("s\(round)"), copy)
                            copies.append(("s\(round)", copy))
                        }
                        if round == 3 { try volume.deleteSnapshot(copies.remove(at: 1).name) }
                    }
                    try scratch.must("cp", volume.file, live)
                }
                try scratch.expectSame(try readLayers(volume, nil, scratch), live, "the volume")
                for copy in copies {
                    try scratch.expectSame(
                        try readLayers(volume, copy.name, scratch), copy.path, "snapshot \(copy.name)")
                }
                // The same by way of the tool.
                let exported = scratch.newPath("raw")
                try volume.tool(["export", volume.path, exported])
                try scratch.expectSame(exported, live, "the export")
                let same = try volume.attempt(["compare", volume.path, exported])
                #expect(same.code == 0, "\(same)")
                try flipBit(exported, at: 1234)
                let differs = try volume.attempt(["compare", volume.path, exported])
                #expect(differs.code == 1, "\(differs)")
            }
        }

        @Test func `read-layers refuses a replica that was not closed in order`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mount()
                do { try #require(try UserFile(volume.file).write([1], at: 0) == 1) }
                try volume.killDaemon()
                let result = try scratch.run(packageRoot + "/tools/read-layers", try volume.replica())
                #expect(result.code == 1 && result.errors.contains("not closed in order"), "\(result)")
            }
        }

        @Test func `files of a replica are for their owner alone, and nothing is written elsewhere`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mounted {
                    _ = try UserFile(volume.file).write([1], at: 0)
                    try volume.snapshot("a")
                }
                let open = try scratch.must(
                    "find", try volume.replica(), "(", "-type", "f", "-not", "-perm", "600", ")", "-o", "(", "-type",
                    "d", "-not", "-perm", "700", ")")
                #expect(open == "", "\(open)")
            }
        }

        @Test func `a small volume does not cost the journal of a large one`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "64M")
                let used = try scratch.must("du", "-sk", volume.path)
                let kilobytes = try #require(Int(used.prefix { $0.isNumber }))
                #expect(kilobytes < 40 << 10, "a volume of 64 MiB costs \(kilobytes) KiB")
            }
        }
    }
}
