namespace ShardForge.Network;

/// <summary>All open connections of a node, of both directions, whatever they are for.</summary>
internal sealed class PeerConnections
{
    private readonly Lock _gate = new();
    private readonly HashSet<PeerConnection> _open = [];
    private CloseCause? _closed;

    /// <summary>Starts the connection and keeps it until its loops have ended. If the node is closing, it is closed at once, as the others were.</summary>
    public void Start(PeerConnection connection)
    {
        CloseCause? closed;
        lock (_gate)
        {
            _open.Add(connection);
            closed = _closed;
        }

        connection.Start();
        if (closed is not null)
            connection.Close(closed);
    }

    public void Remove(PeerConnection connection)
    {
        lock (_gate)
            _open.Remove(connection);
    }

    public int Count(LinkDirection direction)
    {
        int count = 0;
        lock (_gate)
        {
            foreach (PeerConnection connection in _open)
                count += connection.Direction == direction ? 1 : 0;
        }

        return count;
    }

    public List<HandshakeHello> Hellos(string nodeId)
    {
        List<HandshakeHello> hellos = [];
        lock (_gate)
        {
            foreach (PeerConnection connection in _open)
            {
                if (!connection.IsClosed && string.Equals(connection.Remote.NodeId, nodeId, StringComparison.Ordinal))
                    hellos.Add(connection.Remote);
            }
        }

        return hellos;
    }

    /// <summary>Heartbeats and alarms of all.</summary>
    public void Tick(int quietTicksMax)
    {
        foreach (PeerConnection connection in Snapshot())
            connection.Tick(quietTicksMax);
    }

    /// <summary>Closes the connections with one peer.</summary>
    public void Close(string nodeId, CloseCause cause)
    {
        foreach (PeerConnection connection in Snapshot())
        {
            if (string.Equals(connection.Remote.NodeId, nodeId, StringComparison.Ordinal))
                connection.Close(cause);
        }
    }

    /// <summary>Closes all, and those that are started from now on.</summary>
    public void CloseAll(CloseCause cause)
    {
        lock (_gate)
            _closed ??= cause;
        foreach (PeerConnection connection in Snapshot())
            connection.Close(cause);
    }

    private PeerConnection[] Snapshot()
    {
        lock (_gate)
            return [.. _open];
    }
}
