import ArgumentParser
import Glibc
import HostIO
import Primitives
import Replication

struct Export: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a volume or a snapshot to an image file.",
        discussion: """
            The file is sparse, mode 0600, and has its name only when it is complete and durable. FILE - is standard \
            output, raw. The head of a mounted volume changes while it is read: take a snapshot and export that.
            """)

    @Argument(help: "A volume, a replica, or one of its snapshots.") var target: String
    @Argument(help: "The image file, or - for standard output.") var file: String
    @Option(help: ArgumentHelp("raw, or qcow2 through qemu-img.", valueName: "raw|qcow2")) var format: String = "raw"
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        guard let format = ImageFile.Format(rawValue: format) else {
            throw ToolError(.usage, "no format '\(printable(format))': write raw or qcow2")
        }
        let address = try Address(target)
        if file == "-" {
            guard format == .raw else { throw ToolError(.usage, "qcow2 cannot be written to a pipe: give a file") }
            guard isatty(STDOUT_FILENO) == 0 else {
                throw ToolError(.usage, "an image does not belong on a terminal: redirect standard output")
            }
        }
        let found = try context.target(address.path)
        let exportFile = file == "-" ? nil : try ExportFile(file, context)
        if context.isDryRun("export \(address.text) to \(file)") { return .done }
        if let exportFile { try exportFile.confirmOverwriting(context) }
        let session = try found.session(.readOnly, host: context.host)
        if session.isServed, address.snapshot == nil {
            context.remark(
                "\(found.path) is mounted and may change while it is read: export a snapshot for one moment's state")
        }
        let source = try SessionSource(session, snapshot: address.snapshot)
        defer { source.close() }
        let written: UInt64
        if let exportFile {
            written = try exportFile.write(source, format, context)
        } else {
            written = try writeToStandardOutput(source, context)
            return .done
        }
        let result: JSON = [
            "path": .string(found.path), "snapshot": JSON(address.snapshot), "file": .string(absolutePath(file)),
            "format": .string(format.rawValue), "size": JSON(source.size), "written_bytes": JSON(written),
        ]
        if context.isJSON {
            Output.message("summary", result)
        } else {
            context.done(
                "exported \(address.text) to \(file): \(SizeText.human(source.size)), \(SizeText.human(written)) of data",
                result)
        }
        return .done
    }

    private func writeToStandardOutput(_ source: any ContentSource, _ context: Context) throws(ToolError) -> UInt64 {
        let zeros = ByteBuffer(count: contentChunk)
        var written: UInt64 = 0
        func put(_ bytes: UnsafeRawBufferPointer) throws(ToolError) {
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(STDOUT_FILENO, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count < 0 {
                    if errno == EINTR { continue }
                    throw ToolError(.failed, "cannot write to standard output: \(errorText(errno))")
                }
                done += count
            }
            written += UInt64(bytes.count)
        }
        let quiet = Context(settings: context.settings.withoutJSON, host: context.host)
        try withProgress("export", quiet) { meter throws(ToolError) in
            try ContentCopy.each(source, meter) { _, bytes throws(ToolError) in
                try put(bytes)
            } hole: { _, length throws(ToolError) in
                var left = length
                while left > 0 {
                    let count = Int(min(left, UInt64(contentChunk)))
                    try put(UnsafeRawBufferPointer(zeros.part(0, count)))
                    left -= UInt64(count)
                    if Interruption.shared.isRequested { throw ToolError(.interrupted, "interrupted") }
                }
            }
        }
        return written
    }
}

extension Settings {
    /// For standard output that carries content.
    var withoutJSON: Settings {
        var copy = self
        copy.isJSON = false
        return copy
    }
}

/// The file that an export makes: under another name until it is complete.
struct ExportFile {
    let path: String
    private let overwrites: Bool

    init(_ path: String, _ context: Context) throws(ToolError) {
        self.path = path
        var info = stat()
        guard lstat(path, &info) == 0 else {
            guard errno == ENOENT else {
                throw ToolError(.failed, "cannot write \(printable(path)): \(errorText(errno))")
            }
            overwrites = false
            let (directory, _) = split(path)
            guard isDirectory(directory) else {
                throw ToolError(
                    .notFound, "cannot write \(printable(path)): there is no directory \(printable(directory))")
            }
            return
        }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw ToolError(
                .usage, "\(printable(path)) is no regular file: give another name, or - and redirect standard output")
        }
        overwrites = true
    }

    func confirmOverwriting(_ context: Context) throws(ToolError) {
        if overwrites { try context.confirm("\(printable(path)) exists. Overwrite it") }
    }

    /// Order: 1. the content under a hidden name, 2. fsync, 3. the name, 4. fsync of the directory. A crash before 3
    /// leaves a hidden file; an error leaves nothing.
    /// - Returns: bytes of data.
    func write(_ source: any ContentSource, _ format: ImageFile.Format, _ context: Context) throws(ToolError) -> UInt64
    {
        let temporary = ImageFile.temporaryPath(near: path, context)
        let raw = format == .raw ? temporary : temporary + ".raw"
        defer {
            unlink(temporary)
            if raw != temporary { unlink(raw) }
        }
        let written = try fill(raw, source, context)
        if format == .qcow2 { try ImageFile.convertToQcow2(raw, temporary) }
        try publish(temporary)
        return written
    }

    private func fill(_ name: String, _ source: any ContentSource, _ context: Context) throws(ToolError) -> UInt64 {
        let descriptor = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw ToolError(IOError(call: "open", path: path, code: errno), "cannot export") }
        let file = RawFile(path: path, descriptor: descriptor, size: 0)
        var written: UInt64 = 0
        try withProgress("export", context) { meter throws(ToolError) in
            try ContentCopy.each(source, meter) { offset, bytes throws(ToolError) in
                try file.write(bytes, at: offset)
                written += UInt64(bytes.count)
            } hole: { _, _ in
            }
            try file.truncate(to: source.size)
            try file.sync()
        }
        return written
    }

    private func publish(_ temporary: String) throws(ToolError) {
        let descriptor = open(temporary, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ToolError(IOError(call: "open", path: temporary, code: errno), "cannot export")
        }
        defer { close(descriptor) }
        guard fchmod(descriptor, 0o600) == 0, fsync(descriptor) == 0 else {
            throw ToolError(IOError(call: "fsync", path: path, code: errno), "cannot export")
        }
        if overwrites {
            guard rename(temporary, path) == 0 else {
                throw ToolError(IOError(call: "rename", path: path, code: errno), "cannot export")
            }
        } else {
            // link(2) does not replace what somebody put there meanwhile.
            guard link(temporary, path) == 0 else {
                let code = errno
                if code == EEXIST {
                    throw ToolError(.inUse, "\(printable(path)) appeared meanwhile: nothing was overwritten")
                }
                throw ToolError(IOError(call: "link", path: path, code: code), "cannot export")
            }
            unlink(temporary)
        }
        let directory = open(split(path).directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
    }
}
