import Foundation
import Testing

extension EndToEnd {
    /// Every call that a file offers, at every alignment, against a flat array that does the same.
    @Suite(.needsMount) struct Exactness {
        struct Run: CustomTestStringConvertible, Sendable {
            var cache: String
            var seed: UInt64
            var testDescription: String { "cache \(cache), seed \(seed)" }
        }
        static let runs = ["writethrough", "none", "writeback"].flatMap { cache in
            (1...UInt64(2 * Machine.scale)).map { Run(cache: cache, seed: $0) }
        }

        /// The volume, the flat array beside it, and copies of the array for each snapshot.
        private final class Model {
            let volume: Volume
            let cache: String
            var random: Random
            var bytes: [UInt8]
            var snapshots: [(name: String, bytes: [UInt8])] = []
            var step = 0
            private var names = 0

            init(_ volume: Volume, _ run: Run, size: Int) {
                self.volume = volume
                cache = run.cache
                random = Random(seed: run.seed)
                bytes = [UInt8](repeating: 0, count: size)
            }

            /// An offset and a length inside; often on a block's or a sector's edge, often not.
            func range(_ limit: Int) -> (Int, Int) {
                let unit = [1, 1, 512, 4096, 4096][random.below(5)]
                let length = max(unit, (1 + random.below(limit)) / unit * unit)
                let offset = random.below(bytes.count - length + 1) / unit * unit
                return (offset, length)
            }

            func put(_ data: [UInt8], at offset: Int) {
                bytes.withUnsafeMutableBytes {
                    UnsafeMutableRawBufferPointer(rebasing: $0[offset...]).copyBytes(from: data)
                }
            }

            func newName() -> String {
                names += 1
                return "s\(names)"
            }
        }

        private func doStep(_ model: Model, _ file: UserFile, _ direct: UserFile) throws {
            model.step += 1
            let place = "step \(model.step)"
            switch model.random.below(14) {
            case 0, 1, 2:
                let (offset, length) = model.range(70_000)
                let data = model.random.bytes(length)
                #expect(file.write(data, at: offset) == length, "\(place)")
                model.put(data, at: offset)
            case 3, 4:
                // An O_DIRECT write in whole sectors; the page cache must not show what was there before.
                let (start, count) = model.range(200_000)
                let offset = start & ~511, length = max(512, count & ~511)
                let data = model.random.bytes(length)
                #expect(direct.write(data, at: offset) == length, "\(place)")
                model.put(data, at: offset)
            case 5, 6:
                let (offset, length) = model.range(150_000)
                #expect(file.punch(offset, length) == 0, "\(place): punch \(offset)+\(length)")
                model.put([UInt8](repeating: 0, count: length), at: offset)
            case 7:
                let (offset, length) = model.range(150_000)
                #expect(file.zeroRange(offset, length) == 0, "\(place): zero \(offset)+\(length)")
                model.put([UInt8](repeating: 0, count: length), at: offset)
            case 8:
                let (offset, length) = model.range(100_000)
                #expect(file.fallocate(0, offset, length) == 0, "\(place): allocate \(offset)+\(length)")
            case 9 where model.cache != "none":
                let (offset, length) = model.range(20_000)
                let data = model.random.bytes(length)
                #expect(file.writeMapped(data, at: offset) == 0, "\(place): mmap \(offset)+\(length)")
                model.put(data, at: offset)
            case 9, 10:
                let (offset, length) = model.range(300_000)
                let found = file.read(length, at: offset)
                #expect(
                    found.flatMap { firstDifference($0, Array(model.bytes[offset..<offset + length])) } == nil,
                    "\(place)")
                #expect(found?.count == length, "\(place)")
            case 11:
                #expect((model.random.once(in: 2) ? file.sync() : file.syncData()) == 0, "\(place)")
            case 12 where model.random.once(in: 4):
                #expect(file.syncData() == 0)
                let name = model.newName()
                try model.volume.snapshot(name)
                model.snapshots.append((name, model.bytes))
            case 13 where model.random.once(in: 6) && model.snapshots.count > 1:
                let gone = model.snapshots.remove(at: model.random.below(model.snapshots.count))
                try model.volume.deleteSnapshot(gone.name)
            default:
                let (offset, length) = model.range(9000)
                let data = [UInt8](repeating: UInt8(model.step & 255), count: length)
                #expect(file.write(data, at: offset) == length, "\(place)")
                model.put(data, at: offset)
            }
        }

        /// The whole volume and every snapshot, by each way of reading.
        private func compare(_ model: Model, _ comment: String) throws {
            let file = try UserFile(model.volume.file, O_RDONLY)
            #expect(file.size == model.bytes.count)
            let direct = try UserFile(model.volume.file, O_RDONLY, direct: true)
            var readings = [
                ("read", file.read(model.bytes.count, at: 0)), ("direct read", direct.read(model.bytes.count, at: 0)),
            ]
            if model.cache != "none" { readings.append(("mmap", file.readMapped(model.bytes.count, at: 0))) }
            for (way, found) in readings {
                let difference = firstDifference(
                    try #require(found, "\(comment): \(way): errno \(file.lastError)"), model.bytes)
                #expect(difference == nil, "\(comment): \(way), byte \(difference ?? 0)")
            }
            // What SEEK_DATA leaves out reads as zeros; and it leaves out something when there is something to leave out.
            var hole = 0
            for run in try file.dataRuns() + [model.bytes.count..<model.bytes.count] {
                #expect(
                    model.bytes[hole..<run.lowerBound].allSatisfy { $0 == 0 },
                    "\(comment): hole \(hole)..<\(run.lowerBound)")
                hole = run.upperBound
            }
            for snapshot in model.snapshots {
                let old = try UserFile(model.volume.snapshotFile(snapshot.name), O_RDONLY)
                let found = try #require(old.read(snapshot.bytes.count + 1, at: 0), "\(comment): \(snapshot.name)")
                let difference = firstDifference(found, snapshot.bytes)
                #expect(difference == nil, "\(comment): snapshot \(snapshot.name), byte \(difference ?? 0)")
            }
        }

        @Test(arguments: runs)
        func `random calls leave what a flat file holds, through snapshots, remounts and kills`(run: Run) throws {
            try Scratch.use { scratch in
                let size = 6 << 20
                let model = Model(try Volume(in: scratch, size: "6M"), run, size: size)
                for epoch in 0..<4 {
                    try model.volume.mount(["--cache", run.cache])
                    do {
                        let file = try UserFile(model.volume.file),
                            direct = try UserFile(model.volume.file, direct: true)
                        for _ in 0..<120 { try doStep(model, file, direct) }
                        try compare(model, "epoch \(epoch)")
                        // In the writeback mode the kernel may hold what was not synced; a kill would lose it by right.
                        if run.cache == "writeback" { #expect(file.sync() == 0) }
                    }
                    if epoch % 2 == 0 { try model.volume.killDaemon() } else { try model.volume.unmount() }
                    try model.volume.mounted(["--cache", run.cache]) { try compare(model, "after epoch \(epoch)") }
                }
                let result = try model.volume.attempt(["verify", model.volume.path])
                #expect(result.code == 0, "\(result)")
            }
        }

        @Test func `each alignment of a punch and a zero range is exact over a snapshot with data`() throws {
            try Scratch.use { scratch in
                let size = 256 << 10
                let volume = try Volume(in: scratch, size: "256K")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    let data = [UInt8](repeating: 0xA5, count: size)
                    try #require(file.write(data, at: 0) == size)
                    try volume.snapshot("full")
                    var model = data
                    let edges = [0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 12_287, 12_288, 12_289]
                    for zero in [false, true] {
                        for start in edges {
                            for end in edges where end > start {
                                let offset = start + (zero ? 65_536 : 0), count = end - start
                                #expect((zero ? file.zeroRange(offset, count) : file.punch(offset, count)) == 0)
                                for index in offset..<offset + count { model[index] = 0 }
                                let found = try #require(file.read(size, at: 0))
                                #expect(
                                    firstDifference(found, model) == nil,
                                    "\(zero ? "zero" : "punch") \(offset)+\(count)")
                                try #require(file.write(data, at: 0) == size)
                                model = data
                            }
                        }
                    }
                    let old = try #require(try UserFile(volume.snapshotFile("full"), O_RDONLY).read(size, at: 0))
                    #expect(firstDifference(old, data) == nil)
                }
            }
        }

        @Test(arguments: ["writethrough", "none"])
        func `nothing reaches beyond the end, and nothing moves it`(cache: String) throws {
            try Scratch.use { scratch in
                let size = 1 << 20
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mounted(["--cache", cache]) {
                    let file = try UserFile(volume.file)
                    #expect(file.write([1, 2, 3], at: size - 3) == 3)
                    #expect(file.read(10, at: size - 3) == [1, 2, 3])
                    #expect(file.read(10, at: size) == [])
                    #expect(file.read(10, at: size + 100_000) == [])
                    let refused = [-Int(EIO), -Int(ENOSPC), -Int(EFBIG)]
                    #expect(refused.contains(file.write([9], at: size)))
                    #expect(refused.contains(file.write([9], at: size + 8192)))
                    // Across the end: refused as a whole, or cut there.
                    let across = file.write([7, 8, 9], at: size - 2)
                    #expect(across == 2 || refused.contains(across), "\(across)")
                    #expect(file.read(10, at: size - 3) == (across == 2 ? [1, 7, 8] : [1, 2, 3]))
                    for length in [0, size - 4096, size + 4096, size * 8] {
                        #expect(file.truncate(length) < 0, "truncate \(length)")
                    }
                    #expect(file.size == size)
                    #expect(file.fallocate(0, size - 4096, 4097) < 0)
                    #expect(file.size == size)
                }
            }
        }

        @Test func `fallocate modes that would move data are refused`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    for mode: Int32 in [0x08, 0x20, 0x40] {
                        #expect(file.fallocate(mode, 4096, 4096) == -EOPNOTSUPP, "mode \(mode)")
                    }
                    try #require(file.write([UInt8](repeating: 1, count: 8192), at: 0) == 8192)
                    try volume.snapshot("a")
                    let snapshot = try UserFile(volume.snapshotFile("a"), O_RDONLY)
                    #expect(snapshot.read(8192, at: 0) == [UInt8](repeating: 1, count: 8192))
                    #expect(throws: HarnessError.self) { try UserFile(volume.snapshotFile("a"), O_RDWR) }
                    #expect(unlink(volume.file) != 0)
                    #expect(unlink(volume.snapshotFile("a")) != 0)
                    #expect(throws: HarnessError.self) { try UserFile(volume.mountPoint + "/new", O_RDWR | O_CREAT) }
                }
            }
        }

        @Test func `the blocks that stat counts are those that are allocated`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "64M")
                // Counted from one mount to the next: what stat says may be a second old.
                func counted() throws -> Int { try volume.mounted { try UserFile(volume.file).allocated } }
                #expect(try counted() < 1 << 20)
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    try #require(file.write([UInt8](repeating: 1, count: 8 << 20), at: 0) == 8 << 20)
                }
                let full = try counted()
                #expect(full >= 8 << 20 && full < 10 << 20, "\(full)")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    try #require(file.punch(0, 6 << 20) == 0)
                }
                let left = try counted()
                #expect(left >= 2 << 20 && left < 4 << 20, "\(left)")
            }
        }
    }
}
