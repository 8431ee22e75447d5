import Foundation
import Testing

extension EndToEnd {
    /// fio writes patterns that name their own place, reads them back, and says so when one is not what it wrote.
    @Suite(.needsMount) struct Fio {
        struct Setting: CustomTestStringConvertible {
            var engine: String
            var depth: Int
            var direct: Bool
            var cache: String
            var testDescription: String {
                "\(engine), depth \(depth), \(direct ? "direct" : "buffered"), cache \(cache)"
            }
        }

        static let settings: [Setting] =
            ["libaio", "io_uring"].flatMap { engine in
                [1, 16, 64].flatMap { depth in
                    [false, true].map { Setting(engine: engine, depth: depth, direct: $0, cache: "writethrough") }
                }
            } + [
                Setting(engine: "libaio", depth: 16, direct: true, cache: "none"),
                Setting(engine: "io_uring", depth: 64, direct: false, cache: "none"),
                Setting(engine: "libaio", depth: 16, direct: false, cache: "writeback"),
                Setting(engine: "io_uring", depth: 64, direct: true, cache: "writeback"),
            ]

        /// Random and sequential, small and large, aligned to 512 bytes, to blocks, and to nothing.
        static func patterns(direct: Bool) -> [[String]] {
            var patterns = [
                ["--rw=randwrite", "--bsrange=512-1M", "--blockalign=512"],
                ["--rw=randwrite", "--bs=4k"],
                ["--rw=write", "--bs=1M"],
                ["--rw=write", "--bs=512", "--io_size=1M"],
            ]
            // An O_DIRECT call of any alignment is the file system's to refuse; fio itself wants 512 there.
            if !direct { patterns.append(["--rw=randwrite", "--bsrange=64-128k", "--bs_unaligned=1"]) }
            return patterns
        }

        static func job(_ file: String, _ setting: Setting, size: String = "64M") -> [String] {
            [
                "fio", "--name=job", "--filename=\(file)", "--size=\(size)", "--io_size=24M",
                "--ioengine=\(setting.engine)",
                "--iodepth=\(setting.depth)", "--direct=\(setting.direct ? 1 : 0)", "--verify=xxhash",
                "--verify_fatal=1",
                "--verify_state_save=0", "--fallocate=none",
            ]
        }

        @Test(arguments: settings)
        func `fio reads back what it wrote, and so does a later mount`(setting: Setting) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "64M")
                var sum = ""
                var snapshotSum = ""
                try volume.mounted(["--cache", setting.cache]) {
                    for (index, pattern) in Self.patterns(direct: setting.direct).enumerated() {
                        // From here on the writes go over blocks that a snapshot holds.
                        if index == 2 {
                            try scratch.must("sync", volume.file)
                            try volume.snapshot("half")
                            snapshotSum = try scratch.directSum(volume.snapshotFile("half"))
                        }
                        let result = try Running(
                            Self.job(volume.file, setting) + pattern, in: scratch, folder: scratch.path
                        )
                        .wait(seconds: 120)
                        #expect(result.succeeded, "\(pattern): \(result)")
                    }
                    try scratch.must("sync", volume.file)
                    sum = try scratch.sum(volume.file)
                    #expect(try scratch.directSum(volume.file) == sum, "the page cache and the store differ")
                }
                try volume.mounted(["--cache", setting.cache]) {
                    try scratch.expectSum(volume.file, sum, "the volume changed by a remount")
                    try scratch.expectSum(volume.snapshotFile("half"), snapshotSum, "the snapshot changed")
                }
            }
        }

        @Test(.needsLoopDevices, arguments: [512, 4096])
        func `fio verifies through a loop device while other parts of it are trimmed`(sector: Int) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "128M")
                try volume.mounted {
                    try scratch.must(
                        "fio", "--name=fill", "--filename=\(volume.file)", "--size=128M", "--rw=write", "--bs=1M",
                        "--fallocate=none")
                    try volume.snapshot("full")
                    let device = try LoopDevice(over: volume.file, in: scratch, sectorSize: sector)
                    let setting = Setting(engine: "libaio", depth: 16, direct: true, cache: "writethrough")
                    // The first half is written and verified; each block of the second is trimmed, then written.
                    let result = try Running(
                        Self.job(device.path, setting, size: "64M") + [
                            "--rw=randwrite", "--bs=\(max(sector, 512))", "--io_size=6M",
                        ]
                            + [
                                "--name=trims", "--filename=\(device.path)", "--offset=64M", "--size=64M",
                                "--io_size=64M",
                                "--ioengine=libaio", "--iodepth=16", "--direct=1", "--rw=randtrimwrite", "--bs=64k",
                            ], in: scratch, folder: scratch.path
                    ).wait(seconds: 120)
                    #expect(result.succeeded, "\(result)")
                    // And what is trimmed last reads as zeros, over a snapshot with data.
                    try scratch.must("blkdiscard", "--offset", "100663296", "--length", "33554432", device.path)
                    try device.detach()
                    let tail = try #require(
                        try UserFile(volume.file, O_RDONLY, direct: true).read(32 << 20, at: 96 << 20))
                    #expect(firstDifference(tail, [UInt8](repeating: 0, count: 32 << 20)) == nil)
                }
            }
        }

        @Test func `a byte that changes behind fio's back fails its verification`() throws {
            try Scratch.use { scratch in
                let setting = Setting(engine: "libaio", depth: 16, direct: true, cache: "none")
                let job =
                    Self.job(scratch("plain"), setting, size: "16M") + ["--rw=randwrite", "--bs=4k", "--io_size=16M"]
                try #require(Running(job + ["--do_verify=0"], in: scratch, folder: scratch.path).wait().succeeded)
                try #require(Running(job + ["--verify_only=1"], in: scratch, folder: scratch.path).wait().succeeded)
                try flipBit(scratch("plain"), at: 5_000_000)
                #expect(try !Running(job + ["--verify_only=1"], in: scratch, folder: scratch.path).wait().succeeded)
            }
        }
    }
}
