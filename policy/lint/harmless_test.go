package lint

import "regexp"

type rightMutant struct {
	path, how *regexp.Regexp
	because   string
}

// rightAnyway are the mutants that are right, or of which nothing in files can
// tell that they are wrong, by their kind and path and by what was done to them.
var rightAnyway = func() (out []rightMutant) {
	const letter = "another case|with a letter too many"
	for _, h := range []struct{ path, how, because string }{
		{`\.(ports|listeners|rules|metrics|notifications)\[\]\.name$`, "with a letter too many|empty", "a name that nothing else refers to may be any"},
		{`\.matches\[\]\.headers\[\]\.name$|cohort\.header$|hash\.header$|sessionPersistence\.header\.name$`, "another case", "names of headers are the same in capitals"},
		{`\.targetRefs\[\]\.sectionName$`, "empty", "an empty sectionName means the whole target, as without it"},
		{`Service spec\.ports\[\]\.targetPort$`, "another type|zero", "a name or none is right; only the pods know their ports' names"},
		{`EndpointSlice endpoints$`, "empty", "a Service that is scaled to nothing has such a slice"},
		{`EndpointSlice endpoints\[\]\.conditions$`, "empty", "conditions that are not stated mean ready"},
		{`EndpointSlice endpoints\[\]\.targetRef`, letter + "|empty", "it names the endpoint in what is shown, and traffic does not depend on it"},
		{`EndpointSlice endpoints\[\]\.nodeName`, letter, "only the cluster knows its nodes"},
		{`EndpointSlice endpoints\[\]\.nodeName`, "empty", "traffic depends on it only where the Service says so, which policy's own findings look at"},
		{`EndpointSlice endpoints\[\]\.zone$`, "with a letter too many", "zones have the names that a provider gives them"},
		{`ConfigMap data\.rules\.yaml$`, "with a space", "a space at the end of YAML means nothing"},
		{`EndpointSlice ports\[\]\.name$`, "empty", "of one port on each side one means the other"},
		{`ConfigMap data\.ca\.crt$`, "with ", "what stands after the last certificate is no part of one"},
		{`connectionPool\.max`, "a thousand times", "the limit is at most the default, 100,000"},
		{`backendRefs\[\]\.weight$`, "zero", "weight 0 takes a backend out, and others have the requests"},
		{`Mesh spec$`, "empty", "all of a Mesh is optional"},
		{`replacePrefixMatch$`, "empty", "an empty prefix means /"},
		{`TrafficShift spec\.steps\[\]\.hold$`, "of another unit", "a step may hold for hours"},
		{`connectionAge$|absoluteTimeout$|cookie\.ttl$|errorBudget\.period$`, "of another unit", "hours are as good as minutes for it"},
		{`keepSourcePercent$|minReadyPods$`, "zero", "0 asks for none, which is documented"},
		{`removalGuard\.maxPercent$`, "zero", "one instance at a time may still go"},
		{`InstanceGroup spec\.healthCheck$|TrafficPolicy spec\.healthCheck$`, "empty", "an empty health check is a TCP connect"},
		{`InstanceGroup spec\.selector\.tags\.`, "empty", "a tag of EC2 may have an empty value"},
		{`guard\.minRequests$`, "a thousand times", "a busy Service has so many in ten minutes"},
		{`metrics\[\]\.(atMost|atLeast)$`, "in quotes|one thousandth", "only who has the figure knows what it is in good times"},
		{`prometheus\.address$|notifications\[\]\.url$`, "another case", "schemes and hosts are the same in capitals"},
		{`query$`, "with a space", "a space at the end of a query means nothing"},
		{`tls\.options\.`, letter, "only the edges' hosts know the file"},
		{`selector\.(tags|autoScalingGroups)`, letter + "|misspelt", "only EC2 knows its tags and groups"},
		{`matches\[\]\.(path\.value|method\.(method|service)|headers\[\]\.(value|name)|queryParams\[\]\.(value|name))$`, letter, "only the application knows its paths, methods and parameters"},
		{`(replacePrefixMatch|replaceFullPath|http\.path)$`, letter, "only the application knows its paths"},
		{`cookie\.name$|cohort\.header$|hash\.header$|header\.name$`, letter, "only the application knows its cookies and headers"},
		{`(hostname|hosts\[\]|sni|subjectAltNames\[\]|http\.host|externalName)$`, letter, "only DNS and certificates know host names"},
		{`Service spec\.clusterIP$`, "empty", "an empty cluster IP is one that the cluster chooses"},
		{`healthCheck\.port$`, "zero", "0 is the default, the first of the group's ports"},
		{`roleARN$|newRelic\.accountID$|datadog\.site$`, "with a letter too many|huge|a thousand times", "only the provider knows its accounts, roles and sites"},
		{`ExternalService spec\.endpoints\[\]\.zone$`, "with a letter too many", "zones have the names that a provider gives them"},
		{`ExternalService spec\.ports\[\]\.tls$`, "empty", "an empty tls means TLS with the host's own name"},
		{`GatewayClass spec\.description$`, "", "a description may say anything"},
		{`Gateway spec\.addresses\[\]\.value$|allowOrigins\[\]$|notifications\[\]\.url$`, letter, "only DNS and certificates know host names"},
		{`GatewayPolicy spec\.healthCheck\.path$|cookie\.path$`, letter + "|with a star", "only who asks for it knows the path"},
		{`limits\.connections$`, "a thousand times", "a proxy may have a million connections"},
		{`timeout\.(streamIdle|idle)$|connectionPool\.maxConnectionAge$`, "of another unit", "hours are as good as minutes for it"},
		{`backendRefs\[\]\.weight$`, "a thousand times", "of a single backend any weight is all"},
		{`(allowHeaders|exposeHeaders|remove)\[\]$|HeaderModifier\.(add|set)\[\]\.name$`, letter, "names of headers are the same in capitals, and only the application knows its own"},
		{`HeaderModifier\.(add|set)\[\]\.value$`, letter + "|with a star", "a header's value may be any"},
		{`matches\[\]\.(queryParams|headers)\[\]\.value$`, "with a space", "a value may end with a space"},
		{`TrafficPolicy spec\.loadBalancer$`, "empty", "all of it has defaults"},
		{`TrafficPolicy spec\.healthCheck\.grpc(\.service)?$|Mesh spec\.defaults\.healthCheck$`, "empty", "an empty check asks for the server as a whole, or connects"},
		{`healthCheck\.grpc\.service$|credentials\.directory$`, letter, "only the application and the host know it"},
		{`query$`, letter + "|with a star", "only the metrics' system knows its names, and the query can be read"},
		{`(horizontalPodAutoscaler|secretName)$`, "with a letter too many", "only the cluster knows them: they are in no file that the mesh reads"},
	} {
		out = append(out, rightMutant{regexp.MustCompile(h.path), regexp.MustCompile(h.how), h.because})
	}
	return out
}()
