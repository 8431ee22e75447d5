import Foundation
import Testing

extension EndToEnd {
    @Suite(.needsMount) struct Snapshots {
        /// A thread that overwrites its own part of the volume in order, and counts what was begun and acknowledged.
        private final class OrderedWriter: @unchecked Sendable {
            private let lock = NSLock()
            private let over = DispatchSemaphore(value: 0)
            private var begun = 0, acknowledged = 0, isStopping = false, problem: String?
            let base: Int
            let slots: Int
            static let slot = 4096 * 3

            init(base: Int, slots: Int) {
                self.base = base
                self.slots = slots
            }

            var counts: (begun: Int, acknowledged: Int) { lock.withLock { (begun, acknowledged) } }

            /// What the write with this number puts into its slot.
            static func value(_ number: Int) -> UInt8 { UInt8(number % 251 + 1) }

            func start(_ file: UserFile) {
                Thread.detachNewThread { [self] in
                    while true {
                        let (number, stop) = lock.withLock { () -> (Int, Bool) in
                            if !isStopping { begun += 1 }
                            return (begun - 1, isStopping)
                        }
                        if stop { break }
                        let data = [UInt8](repeating: Self.value(number), count: Self.slot)
                        let wrote = file.write(data, at: base + number % slots * Self.slot)
                        lock.withLock {
                            if wrote == Self.slot { acknowledged += 1 } else { problem = "write: \(wrote)" }
                            if problem != nil { isStopping = true }
                        }
                    }
                    over.signal()
                }
            }

            func stop() throws {
                lock.withLock { isStopping = true }
                over.wait()
                if let problem { throw HarnessError(problem) }
            }

            /// How many writes, in order, the content shows; nil when it is no prefix of what was written.
            func prefix(_ found: [UInt8], atLeast low: Int, atMost high: Int) -> Int? {
                (low...max(low, high)).first { count in
                    (0..<slots).allSatisfy { slot in
                        // The last write below `count` that went into this slot.
                        let number = count > slot ? slot + (count - 1 - slot) / slots * slots : -1
                        let value = number < 0 ? 0 : Self.value(number)
                        return found[slot * Self.slot..<(slot + 1) * Self.slot].allSatisfy { $0 == value }
                    }
                }
            }
        }

        @Test func `a snapshot under load holds all that was acknowledged before it and nothing begun after it`() throws
        {
            try Scratch.use { scratch in
                let slots = 16, writers = 3
                let part = slots * OrderedWriter.slot
                let volume = try Volume(in: scratch, size: "4M")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    let all = (0..<writers).map { OrderedWriter(base: $0 * part, slots: slots) }
                    for writer in all { writer.start(file) }
                    var taken: [(name: String, before: [Int], after: [Int])] = []
                    for number in 0..<12 {
                        let before = all.map(\.counts.acknowledged)
                        try volume.snapshot("load-\(number)")
                        taken.append(("load-\(number)", before, all.map(\.counts.begun)))
                    }
                    for writer in all { try writer.stop() }
                    #expect(all.allSatisfy { $0.counts.acknowledged > 100 }, "there was no load: \(all.map(\.counts))")
                    for snapshot in taken {
                        let view = try UserFile(volume.snapshotFile(snapshot.name), O_RDONLY)
                        for (index, writer) in all.enumerated() {
                            let found = try #require(view.read(part, at: writer.base))
                            let shown = writer.prefix(
                                found, atLeast: snapshot.before[index], atMost: snapshot.after[index])
                            #expect(
                                shown != nil,
                                "\(snapshot.name), writer \(index): not within \(snapshot.before[index])...\(snapshot.after[index])"
                            )
                        }
                    }
                }
            }
        }

        @Test(arguments: 1...UInt64(2 * Machine.scale))
        func `every snapshot stays byte-identical through writes, deletes, reverts, resizes, kills and remounts`(
            seed: UInt64
        ) throws {
            try Scratch.use { scratch in
                var random = Random(seed: seed)
                var size = 4 << 20
                let volume = try Volume(in: scratch, size: "4M")
                // A flat copy of each snapshot, as its bytes were when it was taken.
                var taken: [(name: String, copy: String, size: Int)] = []
                var names = 0
                func newName() -> String {
                    names += 1
                    return "snap.\(names)"
                }
                func flatCopy(_ path: String) throws -> String {
                    let copy = scratch.newPath("copy")
                    try scratch.must("cp", path, copy)
                    return copy
                }
                func compareAll(_ when: String) throws {
                    for snapshot in taken {
                        let path = volume.snapshotFile(snapshot.name)
                        try scratch.expectSame(path, snapshot.copy, "\(snapshot.name) \(when)")
                        #expect(try UserFile(path, O_RDONLY).size == snapshot.size)
                    }
                    let listed = try scratch.must("ls", volume.mountPoint + "/snapshots").split(separator: "\n").map(
                        String.init)
                    #expect(Set(listed) == Set(taken.map(\.name)), "\(when)")
                }
                func write(_ file: UserFile) throws {
                    for _ in 0..<30 {
                        let length = 1 + random.below(60_000)
                        let offset = random.below(size - length)
                        if random.once(in: 4) {
                            try #require(file.punch(offset, length) == 0)
                        } else {
                            try #require(file.write(random.bytes(length), at: offset) == length)
                        }
                    }
                    try #require(file.syncData() == 0)
                }
                try volume.mount()
                for round in 0..<14 {
                    let what = "after round \(round)"
                    do { try write(try UserFile(volume.file)) }
                    let name = newName()
                    try volume.snapshot(name)
                    taken.append((name, try flatCopy(volume.file), size))
                    do { try write(try UserFile(volume.file)) }
                    switch round % 7 {
                    case 1, 4:
                        let gone = taken.remove(at: random.below(taken.count))
                        let live = try scratch.sum(volume.file)
                        try volume.deleteSnapshot(gone.name)
                        try scratch.expectSum(volume.file, live, "the volume, after \(gone.name) was deleted")
                    case 2:
                        size += 1 << 20
                        try volume.tool(["resize", volume.path, "\(size)"])
                        #expect(try UserFile(volume.file).size == size)
                    case 3:
                        try volume.unmount()
                        let target = taken[random.below(taken.count)]
                        let before = try volume.tool(["snapshot", "list", volume.path, "--json"])
                        try volume.tool(["snapshot", "revert", "\(volume.path)@\(target.name)", "--yes"])
                        try volume.mount()
                        size = target.size
                        try scratch.expectSame(volume.file, target.copy, "the volume, reverted to \(target.name)")
                        // The old head is kept as one more snapshot; it is under this test from here on.
                        let listed = try scratch.must("ls", volume.mountPoint + "/snapshots").split(separator: "\n")
                            .map(String.init)
                        let kept = Set(listed).subtracting(taken.map(\.name))
                        #expect(kept.count == 1, "\(kept), before: \(before)")
                        for name in kept {
                            let path = volume.snapshotFile(name)
                            taken.append((name, try flatCopy(path), try UserFile(path, O_RDONLY).size))
                        }
                    case 5: try volume.killDaemon(); try volume.mount()
                    case 6: try volume.unmount(); try volume.mount()
                    default: break
                    }
                    try compareAll(what)
                }
                try volume.unmount()
                let result = try volume.attempt(["verify", volume.path])
                #expect(result.code == 0, "\(result)")
            }
        }

        @Test func `renaming, protecting and labels are seen by list, and a protected snapshot is not deleted`() throws
        {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                func checks() throws {
                    try volume.tool(["snapshot", "create", volume.path + "@a", "--label", "why=test", "--label", "n=1"])
                    try volume.tool(["snapshot", "rename", volume.path + "@a", "b"])
                    try volume.tool(["snapshot", "protect", volume.path + "@b"])
                    let listed = try volume.tool(["snapshot", "list", volume.path])
                    #expect(listed.contains("b") && listed.contains("why=test"), "\(listed)")
                    let refused = try volume.attempt(["snapshot", "delete", volume.path + "@b", "--yes"])
                    #expect(refused.code == 11, "\(refused)")
                    #expect(refused.errorLines.count == 1, "\(refused)")
                    try volume.tool(["snapshot", "unprotect", volume.path + "@b"])
                    try volume.deleteSnapshot("b")
                    let gone = try volume.attempt(["snapshot", "delete", volume.path + "@b", "--yes"])
                    #expect(gone.code == 10, "\(gone)")
                }
                try checks()
                try volume.mounted { try checks() }
            }
        }

        @Test func `a thousand snapshots work, and the volume is read as before`() throws {
            try Scratch.use { scratch in
                let count = Machine.scale > 1 ? 1000 : 150
                let volume = try Volume(in: scratch, size: "8M")
                var model = [UInt8](repeating: 0, count: 8 << 20)
                var sums: [Int: String] = [:]
                try volume.mount(limit: 1200)
                do {
                    let file = try UserFile(volume.file)
                    var random = Random(seed: 5)
                    for number in 0..<count {
                        let offset = random.below(2040) * 4096 + random.below(4096)
                        let data = random.bytes(3000)
                        try #require(file.write(data, at: offset) == data.count)
                        model.replaceSubrange(offset..<offset + data.count, with: data)
                        try volume.snapshot("n\(number)")
                        if number % 50 == 7 { sums[number] = try scratch.sum(of: model) }
                    }
                    let found = try #require(file.read(model.count, at: 0))
                    #expect(firstDifference(found, model) == nil)
                }
                try volume.unmount()
                try volume.mounted(limit: 1200) {
                    for (number, sum) in sums.sorted(by: { $0.key < $1.key }) {
                        try scratch.expectSum(volume.snapshotFile("n\(number)"), sum, "snapshot \(number) of \(count)")
                    }
                    try scratch.expectSum(volume.file, try scratch.sum(of: model))
                    let listed = try volume.tool(["snapshot", "list", volume.path])
                    #expect((0..<count).allSatisfy { listed.contains("n\($0)") })
                    // From the middle, the oldest and the newest.
                    for gone in [count / 2, 0, count - 1] { try volume.deleteSnapshot("n\(gone)") }
                    try scratch.expectSum(volume.file, try scratch.sum(of: model))
                }
                let result = try volume.attempt(["verify", volume.path], seconds: 600)
                #expect(result.code == 0, "\(result)")
            }
        }
    }
}
