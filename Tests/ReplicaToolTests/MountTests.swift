import Glibc
import Primitives
import Testing

private let canMount = access("/dev/fuse", R_OK | W_OK) == 0

/// Whether the process has ended; its number may wait for somebody to ask for its end.
private func isGone(_ process: Int32) -> Bool {
    guard kill(process, 0) == 0 else { return true }
    let descriptor = open("/proc/\(process)/stat", O_RDONLY)
    guard descriptor >= 0 else { return true }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 512)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes[..<max(0, count)], as: UTF8.self).contains(") Z ")
}

/// A mounted volume through the built program.
@Suite(.enabled(if: canMount, "/dev/fuse cannot be opened here")) struct MountTests {
    let scratch = Scratch()
    var volume: String { scratch.path + "/vol" }
    var place: String { scratch.path + "/mnt" }

    private func done(_ words: String..., sourceLocation: SourceLocation = #_sourceLocation) -> Tool.Ended {
        let ended = Tool.run(words)
        #expect(ended.code == 0, "\(words): \(ended.error)", sourceLocation: sourceLocation)
        return ended
    }

    /// A mounted volume for `body`; unmounted at any end.
    private func mounted(_ options: String..., body: (Int32) throws -> Void) throws {
        _ = done("create", volume, "--size", "64M")
        _ = scratch.folder("mnt")
        defer { _ = Tool.run("umount", place, "--force") }
        let ended = Tool.run(["mount", volume, place, "--json"] + options)
        #expect(ended.code == 0, "\(ended.error)")
        try body(Int32(try #require(ended.json?["pid"]?.int)))
    }

    private func overwrite(_ offset: off_t, _ byte: UInt8, _ count: Int) {
        let descriptor = open(place + "/volume", O_RDWR | O_CLOEXEC)
        let bytes = [UInt8](repeating: byte, count: count)
        #expect(pwrite(descriptor, bytes, count, offset) == count)
        close(descriptor)
    }

    @Test func `mount returns when the volume is usable, umount when the daemon has gone`() throws {
        let pidFile = scratch.path + "/pid"
        try mounted("--pidfile", pidFile) { process in
            #expect(kill(process, 0) == 0)
            #expect(access(pidFile, F_OK) == 0)
            #expect(access(place + "/volume", R_OK | W_OK) == 0)
            overwrite(12_345, 7, 100_000)
            let ended = done("umount", place, "--json")
            #expect(ended.json?["durable"]?.flag == true)
            #expect(isGone(process))
            #expect(access(pidFile, F_OK) != 0)
            #expect(access(volume + "/control.sock", F_OK) != 0)
            #expect(access(place + "/volume", F_OK) != 0)
            #expect(done("info", volume, "--json").json?["recovery"]?["outcome"]?.text == "clean")
        }
    }

    @Test func `a second mount is refused with who has it`() throws {
        try mounted { process in
            let second = Tool.run("mount", volume, scratch.folder("other"))
            #expect(second.code == 11)
            #expect(second.errorLines.count == 1)
            #expect(second.error.contains("\(process)"))
            #expect(second.error.contains(place))
            #expect(Tool.run("mount", volume + "/replica-1", scratch.folder("other")).code == 11)
            #expect(
                Tool.run("import", scratch.file("i", [UInt8](repeating: 1, count: 4096)), volume, "--yes").code == 11)
            #expect(Tool.run("bench", volume, "--seconds", "1").code == 11)
        }
    }

    @Test func `verbs on a mounted volume are answered by its daemon`() throws {
        try mounted { process in
            overwrite(0, 1, 1 << 20)
            _ = done("snapshot", "create", volume + "@a")
            overwrite(4096, 2, 8192)
            #expect(done("status", volume, "--json").json?["served"]?["pid"]?.int == Int(process))
            #expect(
                done("snapshot", "diff", volume + "@a", "--json").json?["extents"]?.items?.first?.description
                    == #"{"start":4096,"length":8192,"exists":true}"#)
            _ = done("compare", volume + "@a", place + "/snapshots/a")
            _ = done("compare", volume, place + "/volume")
            let exported = scratch.path + "/exported"
            _ = done("export", volume + "@a", exported)
            _ = done("compare", exported, place + "/snapshots/a")
            _ = done("verify", volume)
            _ = done("resize", volume, "+64M")
            var info = stat()
            #expect(stat(place + "/volume", &info) == 0)
            #expect(info.st_size == 128 << 20)
            #expect(Tool.run("snapshot", "revert", volume + "@a").code == 11)
            _ = done("snapshot", "revert", volume + "@a", "--online")
            _ = done("compare", volume, exported)
            _ = done("compare", place + "/volume", exported)
            _ = done("snapshot", "delete", volume + "@before-revert-1", "--yes")
            #expect(access(place + "/snapshots/before-revert-1", F_OK) != 0)
            #expect(access(place + "/snapshots/a", F_OK) == 0)
        }
    }

    @Test func `a snapshot's file keeps its content when its larger neighbour is deleted`() throws {
        try mounted { _ in
            overwrite(0, 1, 1 << 20)
            _ = done("snapshot", "create", volume + "@large")
            overwrite(0, 2, 4096)
            _ = done("snapshot", "create", volume + "@small")
            overwrite(0, 3, 4096)
            // Both are read, so the kernel keeps their pages.
            _ = done("compare", place + "/snapshots/large", volume + "@large")
            _ = done("compare", place + "/snapshots/small", volume + "@small")
            _ = done("snapshot", "delete", volume + "@large", "--yes")
            _ = done("compare", place + "/snapshots/small", volume + "@small")
            var byte: UInt8 = 0
            let descriptor = open(place + "/snapshots/small", O_RDONLY | O_CLOEXEC)
            #expect(pread(descriptor, &byte, 1, 0) == 1)
            close(descriptor)
            #expect(byte == 2)
        }
    }

    @Test func `a mount that is in use stays, until it is forced`() throws {
        try mounted { process in
            let user = open(place + "/volume", O_RDWR | O_CLOEXEC)
            let busy = Tool.run("umount", place)
            #expect(busy.code == 11)
            #expect(busy.errorLines.count == 1)
            var byte: UInt8 = 9
            #expect(pwrite(user, &byte, 1, 0) == 1)
            close(user)
            _ = done("umount", place)
            #expect(isGone(process))
        }
    }

    @Test func `the mount of a dead daemon is detached, and the volume recovered`() throws {
        try mounted { process in
            overwrite(0, 5, 1 << 20)
            kill(process, SIGKILL)
            // The mount answers ENOTCONN as soon as the process is gone.
            _ = Tool.run("umount", place)
            let ended = Tool.run("status", volume, "--json")
            #expect(ended.json?["served"] == nil)
            let again = done("mount", volume, place, "--json")
            #expect(again.json?["pid"]?.int != Int(process))
            #expect(again.json?["recovery"]?["outcome"]?.text == "recovered")
            let descriptor = open(place + "/volume", O_RDONLY | O_CLOEXEC)
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            #expect(pread(descriptor, &bytes, bytes.count, 0) == bytes.count)
            close(descriptor)
            #expect(bytes.allSatisfy { $0 == 5 })
        }
    }

    @Test func `SIGTERM unmounts cleanly`() throws {
        try mounted { process in
            overwrite(0, 6, 65536)
            kill(process, SIGTERM)
            // umount finds either the mount, and waits for its end, or nothing any more.
            let ended = Tool.run("umount", place)
            #expect([0, 1, 10].contains(ended.code), "\(ended.error)")
            #expect(done("info", volume, "--json").json?["recovery"]?["outcome"]?.text == "clean")
        }
    }

    @Test func `a snapshot is mounted read-only`() throws {
        try mounted { _ in
            overwrite(0, 3, 4096)
            _ = done("snapshot", "create", volume + "@s")
            overwrite(0, 4, 4096)
            _ = done("umount", place)
            _ = done("mount", volume + "@s", place)
            #expect(open(place + "/volume", O_RDWR | O_CLOEXEC) < 0)
            let descriptor = open(place + "/volume", O_RDONLY | O_CLOEXEC)
            var byte: UInt8 = 0
            #expect(pread(descriptor, &byte, 1, 0) == 1)
            close(descriptor)
            #expect(byte == 3)
        }
        _ = Tool.run("umount", place)
    }

    @Test func `a place that cannot be is refused before anything is mounted`() {
        _ = done("create", volume, "--size", "64M")
        func refused(_ path: String, _ code: Int32, _ word: String) {
            let ended = Tool.run("mount", volume, path)
            #expect(ended.code == code, "\(ended.error)")
            #expect(ended.errorLines.count == 1)
            #expect(ended.error.contains(word), "\(ended.error)")
        }
        refused(scratch.path + "/missing", 10, "does not exist")
        refused(scratch.file("file"), 64, "no directory")
        refused(scratch.path, 64, "hide the replica")
        refused(volume + "/replica-1/layers", 64, "inside the replica")
        _ = scratch.folder("full")
        _ = scratch.file("full/file")
        refused(scratch.path + "/full", 64, "files")
        #expect(Tool.run("mount", volume + "@none", scratch.folder("mnt")).code == 10)
        #expect(Tool.run("mount", volume, place, "--cache", "much").code == 64)
        #expect(Tool.run("mount", volume, place, "--threads", "0").code == 64)
        #expect(Tool.run("mount", volume, place, "--log", scratch.path + "/missing/log").code == 1)
        #expect(done("info", volume, "--json").json?["served"] == nil)
    }

    @Test func `a volume at a path longer than a socket address is served`() throws {
        var path = scratch.path
        for _ in 0..<3 {
            path += "/" + String(repeating: "d", count: 50)
            #expect(mkdir(path, 0o700) == 0)
        }
        _ = done("create", path + "/vol", "--size", "64M")
        _ = scratch.folder("mnt")
        defer { _ = Tool.run("umount", place, "--force") }
        _ = done("mount", path + "/vol", place)
        _ = done("snapshot", "create", path + "/vol@s")
        #expect(access(place + "/snapshots/s", F_OK) == 0)
        _ = done("umount", place)
    }
}
