// lego's own providers, name by name as lego drives them: lego-dns PROVIDER DNS NAME...
//
// It presents a value for each name and then cleans all of them up. PROVIDER is cloudflare or route53; DNS is the
// resolver that it finds zones by; the variables of the provider say where the API is and who asks. A line on standard
// input lets it begin to clean up.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/cloudflare"
	"github.com/go-acme/lego/v4/providers/dns/route53"
)

func main() {
	kind, resolver, names := os.Args[1], os.Args[2], os.Args[3:]
	if err := dns01.AddRecursiveNameservers([]string{resolver})(nil); err != nil {
		log.Fatal(err)
	}
	provider, err := provider(kind)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		if err := provider.Present(name, "token of "+name, "key authorization"); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("presented")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for _, name := range names {
		if err := provider.CleanUp(name, "token of "+name, "key authorization"); err != nil {
			log.Fatal(err)
		}
	}
}

func provider(kind string) (challenge.Provider, error) {
	switch kind {
	case "cloudflare":
		return cloudflare.NewDNSProvider()
	case "route53":
		return route53.NewDNSProvider()
	}
	return nil, fmt.Errorf("no provider %s", kind)
}
