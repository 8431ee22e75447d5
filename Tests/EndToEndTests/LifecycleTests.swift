import CEndToEnd
import Foundation
import Testing

extension EndToEnd {
    /// Mounting, unmounting, and being in the way.
    @Suite(.needsMount) struct Lifecycle {
        @Test func `a second mount, and any other writer, is refused with exit code 11 and one line`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                let elsewhere = try scratch.folder("elsewhere")
                try volume.mounted {
                    let second = try volume.attempt(["mount", volume.path, elsewhere])
                    #expect(second.code == 11, "\(second)")
                    #expect(second.errorLines.count == 1, "\(second)")
                    let same = try volume.attempt(["mount", volume.path, volume.mountPoint])
                    #expect(same.code == 11, "\(same)")
                    // By the replica's own path there is no socket to go to, only the lock.
                    let direct = try volume.attempt(["mount", try volume.replica(), elsewhere])
                    #expect(direct.code == 11, "\(direct)")
                    let file = try UserFile(volume.file)
                    #expect(file.write([1], at: 0) == 1)
                }
            }
        }

        @Test func `SIGTERM unmounts cleanly, with all data`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "4M")
                try volume.mount()
                let pid = try volume.daemon()
                do { try #require(try UserFile(volume.file).write([1, 2, 3], at: 1_000_000) == 3) }
                kill(pid, SIGTERM)
                try #require(ce_wait_gone(pid, 30_000) == 1, "the daemon is still there")
                let mounts = try String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)
                #expect(!mounts.contains(volume.mountPoint))
                let said = try volume.mount()
                #expect(try UserFile(volume.file).read(3, at: 1_000_000) == [1, 2, 3])
                try volume.unmount()
                // It was closed in order, so there was nothing to recover.
                #expect(!said.contains("recovered"), "\(said)")
            }
        }

        @Test func `after a kill the mount says what it recovered, after an unmount that all was clean`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "4M")
                try volume.mount()
                do {
                    try #require(
                        try UserFile(volume.file).write([UInt8](repeating: 7, count: 50_000), at: 12_345) == 50_000)
                }
                try volume.killDaemon()
                let said = try volume.mount()
                #expect(said.contains("recovered"), "\(said)")
                try volume.unmount()
                let again = try volume.mount()
                #expect(!again.contains("recovered"), "\(again)")
                try volume.unmount()
            }
        }

        @Test func `mount returns though its output is a pipe that the daemon could keep open`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                let result = try scratch.run(
                    "sh", "-c", "\"$1\" mount \"$2\" \"$3\" 2>&1 | cat", "sh", Machine.tool, volume.path,
                    volume.mountPoint, seconds: 30)
                #expect(result.code == 0, "\(result)")
                #expect(try UserFile(volume.file).size == 1 << 20)
                try volume.tool(["umount", volume.mountPoint])
            }
        }

        @Test func `in the foreground it serves until it is told to end, and then ends with 0`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                let pipe = try EventPipe(in: scratch)
                let daemon = try Running(
                    ["stdbuf", "-oL", Machine.tool, "mount", volume.path, volume.mountPoint, "--foreground", "-v"],
                    in: scratch,
                    errorsTo: pipe.writer)
                defer { withExtendedLifetime(pipe) { _ = daemon.stop() } }
                try pipe.wait(for: "mounted")
                #expect(try UserFile(volume.file).size == 1 << 20)
                daemon.signal(SIGINT)
                let result = daemon.wait(seconds: 30)
                #expect(result.code == 0 || result.code == 130, "\(result)")
            }
        }

        @Test func `umount is refused while a file is open, and done when it is closed`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mount()
                do {
                    let file = try UserFile(volume.file)
                    let busy = try volume.attempt(["umount", volume.mountPoint, "--timeout", "1"])
                    #expect(busy.code == 11, "\(busy)")
                    #expect(file.write([1], at: 0) == 1)
                }
                try volume.unmount()
                let nothing = try volume.attempt(["umount", volume.mountPoint])
                #expect(nothing.code == 10, "\(nothing)")
            }
        }

        @Test func `a snapshot and a read-only mount refuse writes`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mounted { _ = try UserFile(volume.file).write([5], at: 5) }
                try volume.snapshot("s")
                for target in [[volume.path, "--read-only"], [volume.path + "@s"]] {
                    let point = try scratch.folder("ro-\(target.count)")
                    try volume.tool(["mount", target[0], point] + target.dropFirst())
                    #expect(throws: HarnessError.self) { try UserFile(point + "/volume", O_RDWR) }
                    #expect(try UserFile(point + "/volume", O_RDONLY).read(2, at: 5) == [5, 0])
                    try volume.tool(["umount", point])
                }
            }
        }

        @Test func `the status files of a mount are there and are JSON`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mounted {
                    for name in ["status", "stats"] {
                        let data = try Data(contentsOf: URL(fileURLWithPath: volume.mountPoint + "/.replica/" + name))
                        let value = try JSONSerialization.jsonObject(with: data)
                        #expect(value is [String: Any], "\(name): \(value)")
                    }
                    let said = try volume.tool(["status", volume.path, "--json"])
                    #expect(try JSONSerialization.jsonObject(with: Data(said.utf8)) is [String: Any])
                }
            }
        }

        @Test func `a replica directory on its own mount is refused`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.mounted {
                    let result = try volume.attempt(["create", volume.mountPoint + "/inner", "--size", "1M"])
                    #expect(result.code != 0)
                    #expect(result.errorLines.count == 1, "\(result)")
                }
            }
        }

        @Test func `a volume of 1 TiB is made at once, and its idle daemon stays below 64 MiB`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1T")
                let begin = DispatchTime.now()
                try volume.mounted {
                    let opened = DispatchTime.now()
                    let file = try UserFile(volume.file)
                    #expect(file.size == 1 << 40)
                    var random = Random(seed: 3)
                    for _ in 0..<2000 {
                        let data = random.bytes(4096)
                        try #require(file.write(data, at: random.below(1 << 28) * 4096) == 4096)
                    }
                    try #require(file.sync() == 0)
                    let resident = try volume.memoryKiB("VmRSS")
                    print(
                        "1 TiB: mounted after \((opened.uptimeNanoseconds - begin.uptimeNanoseconds) / 1_000_000) ms, VmRSS \(resident) KiB"
                    )
                    #expect(resident < 64 << 10, "VmRSS \(resident) KiB")
                }
                try volume.mounted {
                    let resident = try volume.memoryKiB("VmRSS")
                    print("1 TiB, opened again: VmRSS \(resident) KiB")
                    #expect(resident < 64 << 10, "VmRSS \(resident) KiB")
                }
                let used = try scratch.must("du", "-sk", volume.path)
                #expect(Int(used.prefix { $0.isNumber }).map { $0 < 512 << 10 } == true, "\(used)")
            }
        }
    }
}
