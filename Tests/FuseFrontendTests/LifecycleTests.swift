internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Primitives
internal import Testing

@Suite("Mounting, ending, and what goes wrong", .serialized, needsFuse)
struct LifecycleTests {
    private func mountFailure(at path: String, _ change: (inout MountOptions) -> Void = { _ in }) -> MountFailure? {
        do throws(MountFailure) {
            let volume = RamVolume(live: RamImage(size: 4096))
            _ = try FuseMount(volume: volume, at: path, options: testOptions(change))
            return nil
        } catch {
            return error
        }
    }

    @Test func `each obstacle to a mount has its own error`() throws {
        let directory = try makeDirectory()
        defer { rmdir(directory) }
        #expect(mountFailure(at: directory + "/missing") == .mountPointMissing(path: directory + "/missing"))
        let file = directory + "/file"
        _ = try Descriptor(file, O_CREAT | O_RDWR)
        #expect(mountFailure(at: file) == .notADirectory(path: file))
        #expect(mountFailure(at: directory) == .notEmpty(path: directory))
        unlink(file)
        guard
            case .refused(directory, let reason) = mountFailure(at: directory, { $0.userOptions = ["no_such_option"] })
        else {
            Issue.record("an unknown option was taken")
            return
        }
        #expect(reason.contains("no_such_option"))
        #expect(try names(in: directory) == [])
    }

    @Test func `a mount point in use is refused, and the mount there goes on`() throws {
        try withMount { (fixture) throws in
            #expect(mountFailure(at: fixture.directory) == .busy(path: fixture.directory))
            #expect(try status(fixture.path).st_size == 1 << 20)
        }
    }

    @Test func `a mount that is never served goes with its object`() throws {
        let directory = try makeDirectory()
        #expect(mountFailure(at: directory) == nil)
        #expect(try names(in: directory) == [])
        #expect(rmdir(directory) == 0)
    }

    @Test func `the mount table shows the source, the type and the options`() throws {
        let fixture = try Fixture(
            options: testOptions {
                $0.sourceName = "/volumes/a, b\\c"; $0.userOptions = ["noexec"]
            })
        defer { fixture.end() }
        let lines = String(decoding: try contents(of: "/proc/self/mounts"), as: UTF8.self).split(separator: "\n")
        let line = try #require(lines.first { $0.contains(fixture.directory) })
        let fields = line.split(separator: " ")
        #expect(fields[0] == "/volumes/a,\\040b\\134c")
        #expect(fields[2] == "fuse.replica-store")
        for option in ["nosuid", "nodev", "noatime", "noexec"] {
            #expect(fields[3].split(separator: ",").contains(option[...]))
        }
        #expect(!fields[3].contains("allow_other"))
    }

    @Test func `files below the mount point are hidden only when that is asked for`() throws {
        let directory = try makeDirectory()
        _ = try Descriptor(directory + "/file", O_CREAT | O_RDWR)
        #expect(mountFailure(at: directory) == .notEmpty(path: directory))
        #expect(mountFailure(at: directory) { $0.userOptions = ["nonempty"] } == nil)
        #expect(try names(in: directory) == ["file"])
        unlink(directory + "/file")
        rmdir(directory)
    }

    @Test func `a busy mount refuses to be unmounted and goes on serving`() throws {
        let fixture = try Fixture()
        var file: Descriptor? = try fixture.open()
        #expect(throws: MountFailure.busy(path: fixture.mount.mountPoint)) { try fixture.mount.unmount(.whenIdle) }
        try file?.write(pattern(4096, 1), at: 0)
        #expect(fixture.isServing)
        file = nil
        // The kernel drops its last hold on the file after close(2) has returned.
        while (try? fixture.mount.unmount(.whenIdle)) == nil && fixture.isServing {}
        fixture.awaitEnd()
        #expect(throws: MountFailure.notMounted(path: fixture.mount.mountPoint)) {
            try fixture.mount.unmount(.whenIdle)
        }
        #expect(rmdir(fixture.directory) == 0)
    }

    @Test func `a lazy unmount lets open files go on and ends with the last of them`() throws {
        let fixture = try Fixture()
        var file: Descriptor? = try fixture.open()
        try fixture.mount.unmount(.lazily)
        #expect(try names(in: fixture.directory) == [])
        try file?.write(pattern(4096, 1), at: 0)
        #expect(try file?.read(4096, at: 0) == pattern(4096, 1))
        #expect(fixture.isServing)
        file = nil
        fixture.awaitEnd()
        #expect(rmdir(fixture.directory) == 0)
    }

    @Test(arguments: [["umount"], ["fusermount3", "-u"]])
    func `an unmount from outside ends the serving in order`(command: [String]) throws {
        let fixture = try Fixture()
        try fixture.open().write(pattern(4096, 1), at: 0)
        #expect(run(command + [fixture.directory]) == 0)
        fixture.awaitEnd()
        #expect(rmdir(fixture.directory) == 0)
        #expect(Array(fixture.image.bytes[..<4096]) == pattern(4096, 1))
    }

    @Test func `stop with open files lets the request under way end, then cuts the connection`() throws {
        let isHeld = Guarded(false)
        let held = Guarded(0)
        let fixture = try Fixture(gate: {
            if !isHeld.withLock({ $0 }) { return }
            held.withLock { $0 += 1 }
            held.wakeAll()
            let _: Bool = isHeld.wait { $0 ? nil : true }
        })
        let file = try fixture.open(O_RDWR | ct_direct)
        isHeld.withLock { $0 = true }
        let wrote = Guarded<Int?>(nil)
        let writer = inThread {
            let count = (try? file.write(pattern(4096, 8), at: 0)) ?? -1
            wrote.withLock { $0 = count }
        }
        let _: Bool = held.wait { $0 == 1 ? true : nil }
        fixture.mount.stop()
        #expect(fixture.isServing)
        isHeld.withLock { $0 = false }
        isHeld.wakeAll()
        fixture.awaitEnd()
        writer.wait()
        #expect(wrote.withLock { $0 } == 4096)
        #expect(Array(fixture.image.bytes[..<4096]) == pattern(4096, 8))
        #expect(failure { _ = try file.read(4096, at: 0) } == ENOTCONN)
        #expect(rmdir(fixture.directory) == 0)
    }

    @Test func `stop before the serving begins ends the mount`() throws {
        let directory = try makeDirectory()
        let mount = try FuseMount(volume: RamVolume(live: RamImage(size: 4096)), at: directory, options: testOptions())
        mount.stop()
        mount.run()
        #expect(rmdir(directory) == 0)
    }

    @Test func `the state answers while every request on the volume hangs`() throws {
        let isHeld = Guarded(true)
        let held = Guarded(0)
        let options = testOptions { $0.threadCount = 3 }
        let fixture = try Fixture(
            gate: {
                held.withLock { $0 += 1 }
                held.wakeAll()
                let _: Bool = isHeld.wait { $0 ? nil : true }
            }, options: options)
        defer { fixture.end() }
        let results = Guarded(0)
        let readers = (0..<9).map { index in
            inThread {
                guard let file = try? fixture.open(O_RDONLY | ct_direct) else { return }
                guard let block = try? file.read(4096, at: index * 4096), block.count == 4096 else { return }
                results.withLock { $0 += 1 }
            }
        }
        let _: Bool = held.wait { $0 >= 3 ? true : nil }
        #expect(try contents(of: fixture.directory + "/.replica/status").starts(with: "{\"document\"".utf8))
        #expect(try contents(of: fixture.directory + "/.replica/stats").starts(with: "{\"document\"".utf8))
        #expect(results.withLock { $0 } == 0)
        isHeld.withLock { $0 = false }
        isHeld.wakeAll()
        for reader in readers { reader.wait() }
        #expect(results.withLock { $0 } == 9)
        #expect(try fixture.open().write(pattern(4096, 1), at: 0) == 4096)
    }

    @Test func `a process that dies leaves ENOTCONN, and a mount that can be unmounted and made anew`() throws {
        let directory = try makeDirectory()
        let child = try Server(directory)
        let file = try Descriptor(directory + "/volume", O_RDWR)
        try file.write(pattern(4096, 1), at: 0)
        kill(child.process, SIGKILL)
        child.awaitExit()
        #expect(failure { _ = try status(directory + "/volume") } == ENOTCONN)
        #expect(failure { _ = try file.read(4096, at: 4096) } == ENOTCONN)
        #expect(mountFailure(at: directory) == .deadMount(path: directory))
        #expect(run(["umount", "-l", directory]) == 0)
        let next = try Server(directory)
        #expect(try status(directory + "/volume").st_size > 0)
        #expect(run(["umount", directory]) == 0)
        #expect(next.awaitExit() == 0)
        #expect(rmdir(directory) == 0)
    }

    @Test func `SIGTERM ends a serving process in order, also under load`() throws {
        let directory = try makeDirectory()
        let child = try Server(directory)
        let load = (0..<3).map { index in
            inThread {
                guard let file = try? Descriptor(directory + "/volume", O_RDWR | ct_direct) else { return }
                while (try? file.write(pattern(4096, 1), at: index * 4096)) != nil {}
            }
        }
        kill(child.process, SIGTERM)
        #expect(child.awaitExit() == 0)
        for thread in load { thread.wait() }
        #expect(rmdir(directory) == 0)
    }
}

/// A process of its own that serves a volume in memory (`fuse-bench`).
private struct Server {
    let process: pid_t

    /// Returns when the mount can be used.
    init(_ directory: String) throws {
        var ends: [Int32] = [0, 0]
        try check(pipe(&ends))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        posix_spawn_file_actions_addclose(&actions, ends[0])
        process = try spawn([try benchPath(), directory, "backend=ram", "size=16"], &actions)
        posix_spawn_file_actions_destroy(&actions)
        close(ends[1])
        defer { close(ends[0]) }
        var line = [UInt8](repeating: 0, count: 64)
        let count = Glibc.read(ends[0], &line, line.count)
        let text = String(decoding: line[..<max(count, 0)], as: UTF8.self)
        try #require(text.hasPrefix("ready"), "\(text)")
    }

    /// - Returns: the status that wait(2) gives: 0 for an exit with 0.
    @discardableResult
    func awaitExit() -> Int32 {
        var status: Int32 = -1
        while waitpid(process, &status, 0) < 0 && errno == EINTR {}
        return status
    }
}

/// The executables of a package lie beside the test bundle that is loaded into this process.
private func benchPath() throws -> String {
    let maps = String(decoding: try contents(of: "/proc/self/maps"), as: UTF8.self)
    for line in maps.split(separator: "\n") where line.hasSuffix(".xctest") {
        guard let start = line.firstIndex(of: "/"), let end = line.lastIndex(of: "/") else { continue }
        return String(line[start..<end]) + "/fuse-bench"
    }
    var own = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &own, own.count)
    let text = String(decoding: own[..<max(count, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return String(text[..<(text.lastIndex(of: "/") ?? text.startIndex)]) + "/fuse-bench"
}

private func spawn(_ words: [String], _ actions: UnsafePointer<posix_spawn_file_actions_t>?) throws -> pid_t {
    var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    var child = pid_t()
    let code = posix_spawnp(&child, words[0], actions, nil, pointers, nil)
    if code != 0 { throw Failed(code: code) }
    return child
}

/// Runs a command to its end; the status of wait(2).
private func run(_ words: [String]) -> Int32 {
    guard let child = try? spawn(words, nil) else { return -1 }
    var status: Int32 = -1
    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    return status
}
