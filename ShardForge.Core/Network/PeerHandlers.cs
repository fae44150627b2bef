namespace ShardForge.Network;

/// <summary>Who answers which service, and how many answers are being worked on in this node.</summary>
internal sealed class PeerHandlers
{
    public const int ServicesMax = 64;

    private readonly IPeerRequestHandler?[] _handlers = new IPeerRequestHandler?[ServicesMax];

    /// <summary>Handlers that went on asynchronously.</summary>
    public ActivityCount Running { get; } = new();

    public void Set(PeerService service, IPeerRequestHandler handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((int)service, ServicesMax, nameof(service));
        Volatile.Write(ref _handlers[(int)service], handler);
    }

    public IPeerRequestHandler? Find(ushort service) => service < ServicesMax ? Volatile.Read(ref _handlers[service]) : null;
}
