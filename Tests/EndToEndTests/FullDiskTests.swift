import Foundation
import Testing

extension EndToEnd {
    /// A replica on a file system that fills up: a small ext4 or XFS on a loop device.
    @Suite(.needsLoopDevices) struct FullDisk {
        /// Makes a file system of `size` and mounts it; the body gets its folder.
        private func withFileSystem(_ kind: String, _ size: String, _ scratch: Scratch, _ body: (String) throws -> Void)
            throws
        {
            try scratch.must("truncate", "-s", size, scratch("disk"))
            let device = try LoopDevice(over: scratch("disk"), in: scratch, sectorSize: 512, direct: false)
            try scratch.must("mkfs.\(kind)", "-q", device.path)
            let folder = try scratch.folder("small")
            try scratch.must("mount", device.path, folder)
            try body(folder)
            try scratch.must("umount", folder)
            try device.detach()
        }

        @Test(arguments: [("ext4", "200M"), ("xfs", "320M")])
        func `a full disk refuses writes, keeps everything acknowledged, and goes on when there is room`(
            kind: String, size: String
        ) throws {
            try Scratch.use { scratch in
                try withFileSystem(kind, size, scratch) { folder in
                    let hog = folder + "/hog"
                    try scratch.must("fallocate", "-l", kind == "ext4" ? "60M" : "100M", hog)
                    let volume = try Volume(in: scratch, size: "256M", place: folder)
                    let block = 64 << 10
                    var written: [Int] = []
                    func content(_ index: Int) -> [UInt8] {
                        var random = Random(seed: UInt64(index)); return random.bytes(block)
                    }
                    func expectWritten(_ file: UserFile, _ when: String) {
                        for index in written {
                            let found = file.read(block, at: index * block)
                            #expect(
                                found.flatMap { firstDifference($0, content(index)) } == nil && found != nil,
                                "block \(index) \(when)")
                        }
                    }
                    var refused = 0
                    try volume.mount()
                    do {
                        let file = try UserFile(volume.file)
                        for index in 0..<(256 << 20) / block {
                            let wrote = file.write(content(index), at: index * block)
                            if wrote == block {
                                if refused == 0 {
                                    written.append(index)
                                }
                                // Room that comes and goes near the end is fine; what was refused must have no effect.
                                else {
                                    _ = file.punch(index * block, block)
                                }
                            } else {
                                #expect(wrote == -Int(ENOSPC), "\(wrote)")
                                refused += 1
                                if refused == 20 { break }
                            }
                        }
                        #expect(refused == 20, "the disk did not fill up: \(written.count) blocks")
                        let synced = file.sync()
                        #expect(synced == 0 || synced == -ENOSPC, "\(synced)")
                        expectWritten(file, "on the full disk")
                        // A write over what the volume holds already needs no room that is not there.
                        let full = try volume.attempt(["snapshot", "create", volume.path + "@full"])
                        #expect(full.code == 14 || full.code == 0, "\(full)")
                    }
                    // Killed on a full disk: it must come back on a full disk.
                    try volume.killDaemon()
                    try volume.mount()
                    do {
                        let file = try UserFile(volume.file)
                        expectWritten(file, "after a kill on the full disk")
                        try scratch.must("rm", hog)
                        let index = (written.last ?? 0) + 100
                        #expect(file.write(content(index), at: index * block) == block, "there is room again")
                        #expect(file.sync() == 0)
                        written.append(index)
                        expectWritten(file, "when there is room again")
                    }
                    try volume.unmount()
                    try volume.mounted { expectWritten(try UserFile(volume.file), "after a remount") }
                    let result = try volume.attempt(["verify", volume.path])
                    #expect(result.code == 0, "\(result)")
                }
            }
        }

        @Test func `allocate says ENOSPC instead of promising what is not there`() throws {
            try Scratch.use { scratch in
                try withFileSystem("ext4", "120M", scratch) { folder in
                    let volume = try Volume(in: scratch, size: "1G", place: folder, flags: ["--journal-size", "8M"])
                    try volume.mounted {
                        let file = try UserFile(volume.file)
                        #expect(file.fallocate(0, 0, 1 << 20) == 0)
                        #expect(file.fallocate(0, 0, 1 << 30) == -ENOSPC)
                        #expect(file.write([1], at: 0) == 1)
                    }
                }
            }
        }

        @Test func `create on a disk without room leaves nothing behind`() throws {
            try Scratch.use { scratch in
                try withFileSystem("ext4", "16M", scratch) { folder in
                    let result = try scratch.run(Machine.tool, "create", folder + "/vol", "--size", "10G")
                    #expect(result.code == 14, "\(result)")
                    #expect(result.errorLines.count == 1, "\(result)")
                    #expect(!FileManager.default.fileExists(atPath: folder + "/vol"))
                }
            }
        }
    }
}
