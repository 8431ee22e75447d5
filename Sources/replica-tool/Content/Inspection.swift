import HostIO
import Primitives
func inspectReplica(_ path: String, host: any Host) throws(ToolError) -> JSON { [:] }
