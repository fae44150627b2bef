using System.Globalization;
using System.Net;

namespace ShardForge.Network;

/// <summary>Addresses as text: <c>10.0.0.1:7000</c>, <c>[::1]:7000</c>, <c>db-1.example:7000</c>; empty for none.</summary>
internal static class EndPointText
{
    public static string Format(EndPoint? endPoint) => endPoint switch
    {
        DnsEndPoint dns => string.Create(CultureInfo.InvariantCulture, $"{dns.Host}:{dns.Port}"),
        null => "",
        _ => endPoint.ToString() ?? "",
    };

    /// <summary>Null: none, or not understood.</summary>
    public static EndPoint? Parse(string text)
    {
        if (IPEndPoint.TryParse(text, out IPEndPoint? ip) && text.Contains(':', StringComparison.Ordinal))
            return ip;
        int colon = text.LastIndexOf(':');
        return colon > 0 && int.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int port) && port <= IPEndPoint.MaxPort
            ? new DnsEndPoint(text[..colon], port)
            : null;
    }
}
