using System.Globalization;
using System.Net;

namespace ShardForge.Metadata;

/// <summary>Addresses as text: <c>10.0.0.1:7400</c>, <c>[::1]:7400</c>, <c>host.example:7400</c>.</summary>
internal static class EndPointText
{
    public static string Format(EndPoint endPoint) => endPoint switch
    {
        IPEndPoint ip => ip.ToString(),
        DnsEndPoint dns => $"{dns.Host}:{dns.Port}",
        _ => throw new ConfigurationException("Members", $"The address {endPoint} is neither an IP address nor a host name with a port."),
    };

    /// <summary>Null for the empty text: a node without a listener.</summary>
    public static EndPoint? Parse(string text)
    {
        if (text.Length == 0)
            return null;
        int colon = text.LastIndexOf(':');
        // An IP address without a port would be taken too, with port 0.
        if (colon > 0 && ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
            return IPEndPoint.TryParse(text, out IPEndPoint? ip) ? ip : new DnsEndPoint(text[..colon], port);
        throw new InvalidDataException($"The address '{text}' has no port.");
    }
}
